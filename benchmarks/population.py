"""Runs trained as one program beside runs trained one after another: milliseconds of a step and run.

    python -m benchmarks.population [--sizes 1 4 16]     # writes results/population.json, or population_gpu.json

A step's time holds the making of its batches. ``launch.py sweep`` measures the same of its own runs, on a GPU, and chooses.
"""

import argparse
import tempfile
from typing import Any

import jax

from benchmarks import report
from gpt_jax import backend
from gpt_jax.config import Config
from gpt_jax.configs import base, quickstart
from gpt_jax.study.sweep import population
from gpt_jax.train.run import open_run

MODELS = {
    "2 layers of 64": dict(layers=2, width=64, heads=2, context=64),
    "quickstart": {},
    "6 layers of 384": dict(layers=6, width=384, heads=6, context=256),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", type=int, default=[1, 4, 16])
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    backend.tune()
    results: dict[str, Any] = {"machine": report.machine(), "models": {}}
    for name in options.models:
        results["models"][name] = measure(name, options.sizes, options.rounds)
    print(f"wrote {report.write('population', results)}")


def measure(name: str, sizes: list[int], rounds: int) -> dict[str, Any]:
    """Size of the population -> seconds of a step, divided by the size."""
    values = quickstart.get_config() if not MODELS[name] else base.get_config()
    values.model.update(MODELS[name])
    with tempfile.TemporaryDirectory() as folder:
        run = open_run(Config.from_dict(values), folder)
        with jax.set_mesh(run.mesh):
            turns = {str(size): lambda size=size: population.step_seconds(run, size) / size for size in sizes}
            times = report.interleave(turns, rounds)
    found = {size: report.summary(seconds) for size, seconds in times.items()}
    print(name, {size: f"{1e3 * values['median']:.3g} ms" for size, values in found.items()}, flush=True)
    return found


if __name__ == "__main__":
    main()
