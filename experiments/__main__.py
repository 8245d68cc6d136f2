"""Runs experiments again and compares them with the kept results; writes those and the scoreboard if asked to.

python -m experiments                       # the cheapest, as many as take 50 minutes on two cores together
python -m experiments mup nanogpt_cpu       # these
python -m experiments --keep mup            # also replaces the kept result, its figures, and the tables of both README.md
python -m experiments --verify              # runs nothing; works out all verdicts again from the kept values
python -m experiments --table               # runs nothing; writes the tables of both README.md from the kept results
python -m experiments mup -- --config.train.steps=20      # with overrides: compared, never kept
"""

import argparse
import itertools
import sys
from collections.abc import Sequence
from pathlib import Path

import launch
from gpt_jax.errors import DONE, INTERRUPTED, RESUMABLE
from gpt_jax.study.report import scoreboard
from gpt_jax.study.sweep.results import SweepResults

HERE = Path(__file__).resolve().parent
RESULTS, SCOREBOARD = HERE / "results", HERE / "README.md"
NAMES = tuple(sorted(path.stem for path in HERE.glob("*.py") if not path.stem.startswith("_")))
README, BEGIN, END = HERE.parent / "README.md", "<!-- scoreboard -->", "<!-- /scoreboard -->"
CHEAP = 2 * 50 * 60  # core-seconds, of all that run where none is named
CHANGED = 1  # a verdict is not the kept one, or a kept result not as it should be
STOPPED = (RESUMABLE, INTERRUPTED)  # by a signal, which means all of them
HEAD = """# Scoreboard

Claims of papers, measured again by the files of this folder. A claim passes if its mean lies in its pass range, and fails
if it lies outside, where a test over seeds (Student's t, adjusted by Holm over the experiment's claims) tells it from the
range's end at 5%; else, or where a control does not bear it out, it is inconclusive. The [protocol](../docs/protocol.md)
says why. Intervals are those of each claim alone. The ranges follow from the claims, not from the measurements. An
experiment whose intervals are over something else than seeds says so. Failed claims stay.
`make reproduce` runs the cheap experiments again and compares them with the results kept here;
`make reproduce ARGS="--keep NAME"` replaces a kept result. Experiments that name `data/tinyshakespeare.txt` need that file,
to be downloaded by hand. Core-minutes are wall time of runs with a core each, on a machine that did other work as well.

"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--keep", action="store_true", help="replace the kept results and write the tables")
    parser.add_argument("--table", action="store_true", help="write the tables from the kept results and run nothing")
    parser.add_argument("--verify", action="store_true", help="work out the kept verdicts again from the kept values")
    parser.add_argument("--workdir", type=Path, default=Path("sweeps"), help="where sweeps are kept")
    words = sys.argv[1:]
    at = words.index("--") if "--" in words else len(words)
    own, settings = words[:at], words[at + 1 :]
    args = parser.parse_args(own)
    if unknown := [name for name in args.names if name not in NAMES]:
        parser.error(f"there is no experiment {unknown[0]!r}; there are {', '.join(NAMES)}")
    if args.keep and settings:
        parser.error(f"a result with overrides is never kept: {' '.join(settings)}")
    if args.verify:
        return verify(args.names or NAMES)
    names = [] if args.table else args.names or cheap()
    codes = []
    for name in names:
        codes.append(reproduce(name, args.workdir, settings, args.keep))
        if codes[-1] in STOPPED:
            break
    if args.table or args.keep:
        write_table()
    return max(codes, default=DONE)


def verify(names: Sequence[str]) -> int:
    """Prints what is wrong with the kept results; ``CHANGED`` where anything is."""
    kept = [result for name in names if (result := scoreboard.read(RESULTS / f"{name}.json"))]
    faults = [fault for result in kept for fault in scoreboard.verify(result)]
    claims = sum(len(result.findings) for result in kept)
    print("\n".join([*faults, f"{len(kept)} experiments, {claims} claims: {len(faults)} faults"]))
    return CHANGED if faults else DONE


def cheap() -> list[str]:
    """The experiments of the cheapest kept results, as many as cost ``CHEAP`` together."""
    kept = [result for name in NAMES if (result := scoreboard.read(RESULTS / f"{name}.json"))]
    by_cost = sorted(kept, key=lambda result: result.seconds)
    until = itertools.accumulate(result.seconds for result in by_cost)
    return sorted(result.name for result, seconds in zip(by_cost, until, strict=True) if seconds <= CHEAP)


def reproduce(name: str, workdir: Path, settings: list[str], keep: bool) -> int:
    """Trains the missing runs of one sweep and compares it, once complete, with the kept result; replaces that if asked.

    Returns an exit code: ``CHANGED`` where a verdict is another one and neither overrides nor ``keep`` ask for that.
    """
    print(f"== {name}", flush=True)
    directory = workdir / name
    code = launch.main(["sweep", f"--config={HERE / name}.py", f"--workdir={directory}", *settings])
    if code != DONE:
        return code
    path = RESULTS / f"{name}.json"
    results = SweepResults.read(directory)
    lines, as_before = scoreboard.compare(scoreboard.read(path), scoreboard.result(results))
    print("\n".join(lines))
    if keep:
        scoreboard.keep(results, RESULTS)
        print(f"wrote {path}", flush=True)
    elif settings:
        print(f"overrides {' '.join(settings)}: compared with the kept result, not kept", flush=True)
    else:
        print("nothing was written; --keep replaces the kept result", flush=True)
        return DONE if as_before else CHANGED
    return DONE


def write_table() -> None:
    results = [result for name in NAMES if (result := scoreboard.read(RESULTS / f"{name}.json"))]
    SCOREBOARD.write_text(HEAD + scoreboard.table(results, RESULTS.name), encoding="utf-8")
    before, _, rest = README.read_text("utf-8").partition(BEGIN)
    README.write_text(f"{before}{BEGIN}\n{scoreboard.summary(results)}{END}{rest.partition(END)[2]}", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
