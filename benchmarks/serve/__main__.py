"""A server under load on loopback: how long clients wait for a first token and for a whole answer, and tokens per second.

    python -m benchmarks.serve [--workdir runs/q] [--clients 1 8 50] [--answers 100] [--new 64] [--rows 8]

The server is a process of its own, the clients are threads of this one; each sends its next request when it has its answer.
Without --workdir it serves a quickstart of one step, whose texts are as long to write as those of a trained one. Writes
results/serve.json; ``python -m benchmarks.table`` puts it into documents.
"""

import argparse
import contextlib
import json
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

import gpt_jax
from benchmarks import report
from benchmarks.worker import ROOT

SHARES = (50, 90, 99)  # percentiles
PROMPT = "def read(path):\n    "
READY = 600.0  # seconds until a server answers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=Path, help="a run that is there")
    parser.add_argument("--clients", nargs="+", type=int, default=[1, 8, 50])
    parser.add_argument("--answers", type=int, default=100, help="of all clients together")
    parser.add_argument("--new", type=int, default=64, help="tokens of an answer")
    parser.add_argument("--rows", type=int, default=8, help="texts that are written side by side")
    options = parser.parse_args()
    results: dict[str, Any] = {"machine": report.machine(), "new": options.new, "rows": options.rows, "clients": {}}
    with tempfile.TemporaryDirectory() as folder:
        workdir = options.workdir or _quickstart(Path(folder) / "quickstart")
        with _server(workdir, options.rows) as url:
            for clients in options.clients:
                found = measure(url, workdir.absolute().name, clients, max(options.answers, clients), options.new)
                results["clients"][clients] = found
                print(f"{clients} clients: {json.dumps(found)}", flush=True)
    print(f"wrote {report.write('serve', results)}")


def measure(url: str, model: str, clients: int, answers: int, new: int) -> dict[str, Any]:
    """Percentiles in seconds, and tokens per second of all clients together."""

    def ask(seed: int) -> tuple[float, float]:
        body = {"model": model, "prompt": PROMPT, "max_tokens": new, "seed": seed, "stream": True}
        begun = time.perf_counter()
        lines = _post(f"{url}/v1/completions", body)
        next(lines)
        first = time.perf_counter() - begun
        for _ in lines:
            pass
        return first, time.perf_counter() - begun

    before, begun = _written(url), time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        first, whole = np.array(list(pool.map(ask, range(answers)))).T
    seconds = time.perf_counter() - begun
    return {
        "first_token_seconds": {share: float(np.percentile(first, share)) for share in SHARES},
        "answer_seconds": {share: float(np.percentile(whole, share)) for share in SHARES},
        "tokens_per_second": (_written(url) - before) / seconds,
    }


def _quickstart(workdir: Path) -> Path:
    gpt_jax.train("quickstart", workdir, {"train.steps": 1, "train.eval_batches": 1, "sample.prompts": ()})
    return workdir


@contextlib.contextmanager
def _server(workdir: Path, rows: int) -> Iterator[str]:
    """The address of a server that answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable,
        str(ROOT / "launch.py"),
        "serve",
        f"--workdir={workdir}",
        f"--port={port}",
        f"--rows={rows}",
    ]
    process, url = subprocess.Popen(command), f"http://127.0.0.1:{port}"
    try:
        end = time.monotonic() + READY
        while not _answers(url):
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError("the server does not answer")
            time.sleep(0.2)
        yield url
    finally:
        process.terminate()
        process.wait()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/healthz"):
            return True
    except urllib.error.URLError:
        return False


def _written(url: str) -> float:
    """Tokens that the server has written so far."""
    with urllib.request.urlopen(f"{url}/metrics") as response:
        lines = response.read().decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("gpt_jax_completion_tokens_total"))


def _post(url: str, body: dict[str, Any]) -> Iterator[bytes]:
    """The events of a stream."""
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as response:
        yield from (line for line in response if line.startswith(b"data: "))


if __name__ == "__main__":
    main()
