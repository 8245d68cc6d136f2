"""Growth of a training step's time, memory and compilation with context, layers and width; and a run's start-up.

    python -m benchmarks.growth [--only context layers] [--start_up] [--toy]

Each point is a process of its own, without the cache of compiled programs. Writes benchmarks/results/growth.json, its
picture and the table of docs/performance.md. A slope is the exponent p of x^p, by least squares in logarithms.
"""

import argparse
import json
import os
import subprocess
import sys
from typing import Any

from benchmarks import report, start_up
from benchmarks.growth import axes, page
from benchmarks.worker import ROOT
from gpt_jax import bars

LIMIT = 600  # seconds of one point


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    knobs = [axis.knob for axis in axes.AXES]
    parser.add_argument("--only", nargs="+", choices=knobs, default=knobs)
    parser.add_argument("--start_up", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--toy", action="store_true", help="tries it in seconds at tiny sizes; writes nothing")
    options = parser.parse_args()
    results: dict[str, Any] = {"machine": report.machine(), "axes": {}}
    wanted = [axis for axis in axes.AXES if axis.knob in options.only]
    tasks = [(axis.knob, value, scan) for axis in wanted for scan in axis.scans for value in _values(axis, options.toy)]
    with bars.bar(tasks, desc="growth", unit="model") as progress:
        for knob, value, scan in progress:
            found = point(knob, value, scan, options.toy)
            results["axes"].setdefault(page.label(knob, scan), {})[str(value)] = found
            progress.write(f"{page.label(knob, scan)} {value}: {page.summary(found)}")
    if options.start_up and not options.toy:
        results["start_up"] = start_up.measure()
    if options.toy:
        print(page.table(results))
    else:
        print(f"wrote {report.write('growth', results)} and {page.write(results)}")


def _values(axis: axes.Axis, toy: bool) -> tuple[int, ...]:
    return axis.toy if toy else axis.values


def point(knob: str, value: int, scan: bool, toy: bool) -> dict[str, Any]:
    """A model's figures, or why there are none: {"error": …}."""
    command = [sys.executable, "-m", "benchmarks.growth.point", knob, str(value), str(scan), str(toy)]
    environment = {**os.environ, "JAX_ENABLE_COMPILATION_CACHE": "false"}
    try:
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=LIMIT)
    except subprocess.TimeoutExpired:
        return {"error": f"not done after {LIMIT} s"}
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1][:300]}
    return json.loads(done.stdout)


if __name__ == "__main__":
    main()
