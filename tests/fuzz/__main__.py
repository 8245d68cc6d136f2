"""Any number of cases, or the one of a seed again.

python -m tests.fuzz --seconds=600 [--seed=S] [--jobs=2]
python -m tests.fuzz --only=SEED
"""

import argparse
import collections
import itertools
import os
import secrets
import shlex
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests import xla

ROOT = Path(__file__).resolve().parents[2]


def main() -> int:
    asked = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__.splitlines()[0])
    asked.add_argument("--seconds", type=float, default=60, help="how long new cases are begun")
    asked.add_argument("--cases", type=int, default=None, help="at most so many")
    asked.add_argument("--seed", default=None, help="of the series; a new one if not given")
    asked.add_argument("--jobs", type=int, default=2, help="cases at once")
    asked.add_argument("--only", default=None, help="the seed of one case, run again and shown")
    given = asked.parse_args()
    prepare_environment()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        return again(given.only, Path(name)) if given.only else many(given, Path(name))


def prepare_environment() -> None:
    """What has to be set before JAX is imported."""
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    os.environ.setdefault("XLA_FLAGS", xla.flags())
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".cache" / "jax"))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")


def many(given: argparse.Namespace, folder: Path) -> int:
    from tqdm import tqdm

    from tests.fuzz import series

    begun, series_seed = time.monotonic(), given.seed or secrets.token_hex(3)
    shared = series.start(folder)
    numbers = itertools.count() if given.cases is None else range(given.cases)
    seeds = (f"{series_seed}-{i}" for i in numbers)
    codes: collections.Counter = collections.Counter()
    failed = []
    with tqdm(total=int(given.seconds), unit="s", bar_format="{l_bar}{bar}| {n:.0f}/{total} s{postfix}") as bar:
        timed = itertools.takewhile(lambda _: time.monotonic() - begun < given.seconds, seeds)
        for case, ended, faults in series.run(timed, folder, shared, given.jobs):
            codes[f"{case.argv[0] if case.argv[:1] and case.argv[0].isalpha() else 'other'} {ended.code}"] += 1
            if faults:
                failed.append(case.seed)
                tqdm.write(f"{case.seed} {(case.argv or ['-'])[0][:20]}: {'; '.join(faults)}: {_last(ended.said)}")
            bar.n = min(bar.total, int(time.monotonic() - begun))
            bar.set_postfix_str(f"{codes.total()} cases, {len(failed)} failing")
    print(f"\nseries {series_seed}: {codes.total()} cases, {len(failed)} failing")
    for what, count in sorted(codes.items()):
        print(f"  {what:<14} {count}")
    for seed in failed:
        print(f"python -m tests.fuzz --only={seed}")
    return int(bool(failed))


def again(seed: str, folder: Path) -> int:
    from tests.fuzz import series

    shared = series.start(folder)
    case, ended, faults = next(series.run([seed], folder, shared, 1, keep=True))
    kept = Path(tempfile.gettempdir()) / f"fuzz-{seed}"
    shutil.rmtree(kept, ignore_errors=True)
    shutil.move(folder / seed, kept)
    print(ended.printed, end="")
    print(ended.said, end="", file=sys.stderr)
    print(f"\n{shlex.join(case.argv)[:3000]}\nfiles: {kept}\nexit code {ended.code} after {ended.seconds:.1f} s")
    print(*(f"FAULT: {fault}" for fault in faults or []), sep="\n")
    return int(bool(faults))


def _last(said: str) -> str:
    """The line of a failure that names it."""
    lines = [line for line in said.splitlines() if line.strip() and not line.startswith("error: this is a bug")]
    return lines[-1][:200] if lines else ""


if __name__ == "__main__":
    sys.exit(main())
