"""Runs experiments again, keeps what they found, and writes the scoreboard.

python -m experiments                       # those that take under ten minutes on two cores
python -m experiments mup nanogpt_cpu       # these
python -m experiments --table               # the scoreboard and README.md's table alone, of the results that are kept
python -m experiments mup -- --config.data.source="text(path='other.txt')"
"""

import argparse
import sys
from pathlib import Path

import launch
from gpt_jax.errors import DONE
from gpt_jax.study.report import scoreboard
from gpt_jax.study.sweep.results import SweepResults

HERE = Path(__file__).resolve().parent
RESULTS, SCOREBOARD = HERE / "results", HERE / "README.md"
NAMES = tuple(sorted(path.stem for path in HERE.glob("*.py") if not path.stem.startswith("_")))
README, BEGIN, END = HERE.parent / "README.md", "<!-- scoreboard -->", "<!-- /scoreboard -->"
CHEAP = 20 * 60  # core-seconds
HEAD = """# Scoreboard

Claims of papers, measured again by the files of this folder. A claim is held where the whole 95% interval (Student's, over
seeds) lies in the range that counts as held, failed where all of it lies outside, and else inconclusive; the ranges follow
from the claims, not from what was measured. What failed stays. `make reproduce` runs the cheap ones again and says where a
verdict is another one. `data/tinyshakespeare.txt` has to be put there by hand for those that name it.

"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--table", action="store_true", help="write the scoreboard and run nothing")
    parser.add_argument("--workdir", type=Path, default=Path("sweeps"), help="where sweeps are kept")
    words = sys.argv[1:]
    at = words.index("--") if "--" in words else len(words)
    own, settings = words[:at], words[at + 1 :]
    args = parser.parse_args(own)
    if unknown := [name for name in args.names if name not in NAMES]:
        parser.error(f"there is no experiment {unknown[0]!r}; there are {', '.join(NAMES)}")
    codes = [] if args.table else [reproduce(name, args.workdir, settings) for name in args.names or cheap()]
    write_table()
    return max(codes, default=DONE)


def cheap() -> list[str]:
    """The experiments whose kept result took under ten minutes on two cores."""
    kept = {name: scoreboard.read(RESULTS / f"{name}.json") for name in NAMES}
    return [name for name, result in kept.items() if result and result.seconds <= CHEAP]


def reproduce(name: str, workdir: Path, settings: list[str]) -> int:
    """Runs what is missing of one sweep, and keeps its result if it comes to its end."""
    print(f"== {name}", flush=True)
    directory = workdir / name
    code = launch.main(["sweep", f"--config={HERE / name}.py", f"--workdir={directory}", *settings])
    if code != DONE:
        return code
    path = RESULTS / f"{name}.json"
    before = scoreboard.read(path)
    now = scoreboard.keep(SweepResults.read(directory), RESULTS)
    changed = scoreboard.changes(before, now) if before else []
    print("\n".join(changed) or f"{len(now.findings)} verdicts, " + ("as before" if before else "new"), flush=True)
    return DONE


def write_table() -> None:
    results = [result for name in NAMES if (result := scoreboard.read(RESULTS / f"{name}.json"))]
    SCOREBOARD.write_text(HEAD + scoreboard.table(results, RESULTS.name), encoding="utf-8")
    before, _, rest = README.read_text("utf-8").partition(BEGIN)
    README.write_text(f"{before}{BEGIN}\n{scoreboard.summary(results)}{END}{rest.partition(END)[2]}", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
