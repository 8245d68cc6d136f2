"""What a sweep costs beyond its training: 24 small runs of two shapes, one after another in one slot.

    python -m benchmarks.sweep              # prints the wall time against the runs' own, and what compiling each shape cost
    python -m benchmarks.sweep --cores=0    # the slot has every core of the machine

With ``--cores=1``, the default, training shares one core with all that the sweep does besides. A run's own seconds are
those of summary.json: from opening its data to its last checkpoint. Its steps alone are its tokens at its median rate.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import launch
from gpt_jax.errors import DONE
from gpt_jax.study.sweep.results import SweepResults
from gpt_jax.train.record.metrics import read_summary

EXPERIMENT = '''"""Twelve learning rates for each of two widths."""

from gpt_jax.configs import quickstart
from gpt_jax.study.sweep import grid
from gpt_jax.study.sweep import Sweep


def sweep():
    c = quickstart.get_config()
    c.model.update(layers=2, heads=2, context=64)
    c.train.update(steps=400, batch=8, eval_every=400, save_every=400, eval_batches=20, tensorboard=False)
    c.sample.prompts = ()
    rates = [1e-3 * 1.2**i for i in range(12)]
    return Sweep(c, grid({"model.width": [64, 96], "optim.lr": rates}), seeds=(0,), baseline=None)
'''


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cores", type=int, default=1, help="of the slot; 0 = all")
    if cores := parser.parse_args().cores:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    with tempfile.TemporaryDirectory() as folder:
        os.environ["JAX_COMPILATION_CACHE_DIR"] = str(Path(folder) / "compiled")
        experiment, workdir = Path(folder) / "rates.py", Path(folder) / "sweep"
        experiment.write_text(EXPERIMENT)
        begun = time.perf_counter()
        code = launch.main(["sweep", f"--config={experiment}", f"--workdir={workdir}", "--jobs=1"])
        wall = time.perf_counter() - begun
        if code != DONE:
            return code
        tell(SweepResults.read(workdir), wall)
    return DONE


def tell(results: SweepResults, wall: float) -> None:
    summaries = {id: read_summary(results.directory(id)) for id in results.runs}
    own = sum(summary["seconds"] for summary in summaries.values())
    steps = sum(summary["tokens"] / summary["tokens_per_second"] for summary in summaries.values())
    print(f"\n{len(summaries)} runs: {wall:.1f} s in all, {own:.1f} s by the runs' own count, {steps:.1f} s of steps")
    print(f"the sweep took {wall / own:.3f} times its runs, and {wall / steps:.3f} times their steps")
    by_width: dict[str, list[float]] = {}
    for id, entry in results.runs.items():
        by_width.setdefault(entry.arms[0].split(",")[0], []).append(summaries[id]["seconds"])
    for width, seconds in by_width.items():
        print(
            f"{width}: first run {max(seconds):.1f} s, with its compilation; the others {statistics.median(seconds):.1f} s"
        )


if __name__ == "__main__":
    sys.exit(main())
