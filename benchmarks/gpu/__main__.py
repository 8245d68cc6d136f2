"""Everything there is to know about a GPU in one visit, the most telling first; what is cut short loses one piece.

    python -m benchmarks.gpu [--minutes=9] [--only=step,decode] [--cache=DIR] [--out=FILE.json] [--toy]
    python -m benchmarks.gpu --table      # puts results/gpu.json into docs/performance.md

Each piece (benchmarks/gpu/pieces.py) runs in a process of its own and is killed at its limit; what it has measured until
then counts. The file is rewritten after each; pieces that it holds from earlier calls and that are not run again stay.
"""

import argparse
import contextlib
import datetime
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks import report
from benchmarks.gpu import table
from benchmarks.gpu.pieces import PIECES, Piece
from benchmarks.table import insert
from benchmarks.worker import ROOT

OUT, TOY_OUT = report.RESULTS / "gpu.json", ROOT / "runs" / "gpu_toy.json"
PAGE = ROOT / "docs" / "performance.md"
LEAST = 5.0  # seconds left below which no piece is begun: it would only start JAX
END = 2.0  # seconds kept for the last write
KEPT = 3000  # characters of a failed piece's stderr


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=9.0, help="for the whole suite")
    parser.add_argument("--only", default="", help=f"pieces, in this order, of {', '.join(PIECES)}")
    parser.add_argument("--cache", type=Path, help="JAX's persistent compilation cache; none is kept by default")
    parser.add_argument("--out", type=Path, help="the results; benchmarks/results/gpu.json by default")
    parser.add_argument("--toy", action="store_true", help="sizes for a CPU, to try the suite")
    parser.add_argument("--table", action="store_true", help="only write the tables of docs/performance.md")
    options = parser.parse_args()
    if options.table:
        write_table(OUT, PAGE)
        return 0
    names = options.only.split(",") if options.only else list(PIECES)
    unknown = set(names) - set(PIECES)
    if unknown:
        parser.error(f"no such piece: {', '.join(sorted(unknown))}; there are {', '.join(PIECES)}")
    out = options.out or (TOY_OUT if options.toy else OUT)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the running piece is killed with the suite
    return run({name: PIECES[name] for name in names}, out, options.minutes, cache=options.cache, toy=options.toy)


def run(pieces: Mapping[str, Piece], out: Path, minutes: float, *, cache: Path | None = None, toy: bool = False) -> int:
    """Runs the pieces one after another and returns the exit code: 0 if any of them has measured something."""
    end = time.monotonic() + 60 * minutes
    results: dict[str, Any] = {"machine": report.machine(), "toy": toy, "pieces": _earlier(out, toy)}
    measured = 0
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        scratch = Path(folder)
        surroundings = _environment(cache or scratch / "cache")
        for name, piece in pieces.items():
            left = end - time.monotonic() - END
            if left < LEAST:
                found: dict[str, Any] = {"status": "skipped", "said": "no time left", "seconds": 0.0, "parts": {}}
            else:
                found = _run_piece(name, piece, min(piece.limit, left), scratch, surroundings, toy)
            measured += found["status"] != "skipped" and any("error" not in part for part in found["parts"].values())
            if found["status"] != "skipped" or name not in results["pieces"]:
                results["pieces"][name] = found
            _write(out, results)
            said = f": {found['said']}" if found["said"] else ""
            print(f"{name} {found['status']} in {found['seconds']:.0f} s{said}", flush=True)
    print(f"wrote {out}", flush=True)
    return 0 if measured else 1


def write_table(results: Path, page: Path) -> None:
    """Puts the tables between the page's markers, or nothing where nothing has been measured."""
    text = table.render(json.loads(results.read_text(encoding="utf-8"))) if results.exists() else ""
    page.write_text(insert(page.read_text(encoding="utf-8"), "gpu", text), encoding="utf-8")
    print(f"wrote {page}" if text else f"no results of gpu yet: {results} is not there")


def _run_piece(
    name: str, piece: Piece, limit: float, scratch: Path, surroundings: Mapping[str, str], toy: bool
) -> dict[str, Any]:
    """How a piece ended, and its parts: what it has written down until it ended or was killed."""
    answers, errors = scratch / f"{name}.jsonl", scratch / f"{name}.stderr"
    flags = f"{surroundings.get('XLA_FLAGS', '')} {piece.flags}".strip()
    environment = {**surroundings, **piece.environment, "XLA_FLAGS": flags}
    command = [sys.executable, "-m", "benchmarks.gpu.worker", piece.target, str(answers), str(scratch)]
    start = time.monotonic()
    with errors.open("w") as stderr:
        process = subprocess.Popen(
            [*command, *(["toy"] if toy else [])], cwd=ROOT, env=environment, stderr=stderr, start_new_session=True
        )
        try:
            code = process.wait(limit)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            _kill(process)
    parts = _parts(answers)
    found = {"status": "measured", "said": "", "seconds": time.monotonic() - start, "parts": parts}
    found["date"] = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    if code == 0:
        if any("error" not in part for part in parts.values()):
            return found
        return found | {"status": "failed", "said": "; ".join(part["error"] for part in parts.values())}
    text = errors.read_text(encoding="utf-8", errors="replace")
    said = f"killed after {limit:.0f} s" if code is None else f"exit code {code}: {_last_line(text)}"
    return found | {"status": "cut" if code is None else "failed", "said": said, "stderr": text[-KEPT:]}


def _kill(process: subprocess.Popen) -> None:
    """Ends the piece with all that it has started; a process that the driver holds on to is left behind."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(10)


def _environment(cache: Path) -> dict[str, str]:
    """Programs are kept, and shared by pieces; memory is taken as needed, as contestants and killed pieces want theirs."""
    return {
        **os.environ,
        "JAX_COMPILATION_CACHE_DIR": str(cache.resolve()),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.2",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        "XLA_PYTHON_CLIENT_MEM_FRACTION": ".92",
    }


def _parts(answers: Path) -> dict[str, Any]:
    """Label -> figures. A line that a kill has cut in two is left out."""
    parts = {}
    for line in answers.read_text(encoding="utf-8").splitlines() if answers.exists() else []:
        with contextlib.suppress(json.JSONDecodeError):
            parts.update(json.loads(line))
    return parts


def _earlier(out: Path, toy: bool) -> dict[str, Any]:
    """The pieces of earlier calls, of the same kind."""
    if not out.exists():
        return {}
    results = json.loads(out.read_text(encoding="utf-8"))
    return results["pieces"] if results["toy"] == toy else {}


def _write(out: Path, results: dict[str, Any]) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    new = out.with_name(f"{out.name}.new")
    new.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    new.replace(out)


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][-300:] if lines else "it said nothing"


if __name__ == "__main__":
    sys.exit(main())
