"""Settings of XLA, JAX and the C library on this CPU: a training step with each, in turns with the default.

    python -m benchmarks.flags [--shapes small base] [--rounds 7]     # writes benchmarks/results/flags.json
    python -m benchmarks.table docs/performance.md

The default is what gpt_jax/backend.py sets. Each setting has a process of its own, for as long as it is measured. CPU time
(user and system, of all threads) says more than time where other programs run.
"""

import argparse
import os
import statistics
from typing import Any

from benchmarks import report
from benchmarks.shapes import ON_CPU, SHAPES
from benchmarks.worker import Worker
from gpt_jax.backend import CPU_FLAGS

MODE = "unrolled"
ROUND_SECONDS = 1.5  # of a turn, at least one step
LOSSES = 5  # steps whose losses are compared
GAIN = 0.03  # of time and CPU time, which a setting has to save at one shape and cost at none, to become the default

YNN = "--xla_cpu_experimental_ynn_fusion_type"
SCHEDULER = "--xla_cpu_scheduler_type=CPU_SCHEDULER_TYPE"
SETTINGS = {
    "programs run in a thread of JAX": {"JAX_CPU_ENABLE_ASYNC_DISPATCH": "1"},
    "malloc gives back what is freed": {"MALLOC_MMAP_MAX_": "65536"},
    "XLA's own choice of YNNPACK's fusions, and reductions": {"XLA_FLAGS": f"{YNN}=+reduce"},
    "no fusions of YNNPACK": {"XLA_FLAGS": f"{YNN}="},
    "reductions alone in YNNPACK": {"XLA_FLAGS": f"{YNN}=LIBRARY_FUSION_TYPE_REDUCE"},
    "products alone in YNNPACK": {"XLA_FLAGS": f"{YNN}=LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT"},
    "products in oneDNN": {"XLA_FLAGS": "--xla_cpu_experimental_onednn_custom_call=true"},
    "scheduled for concurrency": {"XLA_FLAGS": f"{SCHEDULER}_CONCURRENCY_OPTIMIZED"},
    "scheduled for memory": {"XLA_FLAGS": f"{SCHEDULER}_MEMORY_OPTIMIZED"},
    "preset for fast programs": {"XLA_FLAGS": "--xla_cpu_opt_preset=CPU_OPT_PRESET_FAST_RUNTIME"},
    "fast math": {"XLA_FLAGS": "--xla_cpu_enable_fast_math=true"},
    "vectors of 512 bits": {"XLA_FLAGS": "--xla_cpu_prefer_vector_width=512"},
    "one arena of malloc": {"MALLOC_ARENA_MAX": "1"},
    "huge pages": {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=ON_CPU)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    results: dict[str, Any] = {"machine": report.machine(), "dtype": "float32", "default": " ".join(CPU_FLAGS)}
    results["shapes"] = {}
    for shape in options.shapes:
        results["shapes"][shape] = measure(shape, options.rounds)
        print(f"wrote {report.write('flags', results)}", flush=True)  # a run that is cut keeps the shapes before
    print(verdict(results["shapes"]))


def measure(shape: str, rounds: int) -> dict[str, Any]:
    """Setting -> what ``beside`` says of it."""
    found = {}
    default = started({})
    try:
        losses = ready(default, shape)
        count = max(1, round(ROUND_SECONDS / default("cost", mode=MODE, count=2)["seconds"]))
        for name, environment in SETTINGS.items():
            found[name] = beside(default, losses, environment, shape, rounds, count)
            print(f"{shape}, {name}: {described(found[name])}", flush=True)
    finally:
        default.close()
    return found


def beside(
    default: Worker, losses: list[float], environment: dict[str, str], shape: str, rounds: int, count: int
) -> dict[str, Any]:
    """A setting in turns with the default: "seconds" and "cpu_seconds" of a step, each with its "relative" to the default's,
    page "faults", and how far its first "losses" are from the default's; {"refused": why} where no step could be run."""
    worker = started(environment)
    try:
        away = max(abs(a - b) for a, b in zip(ready(worker, shape), losses, strict=True))
        turns = {
            name: lambda one=one: one("cost", mode=MODE, count=count) for name, one in (("", default), ("set", worker))
        }
        costs = report.interleave(turns, rounds)
    except RuntimeError as error:
        return {"refused": str(error)}
    finally:
        worker.close()
    found: dict[str, Any] = {"losses": away, "faults": statistics.median(cost["faults"] for cost in costs["set"])}
    for measure in ("seconds", "cpu_seconds"):
        theirs, own = ([cost[measure] for cost in costs[name]] for name in ("", "set"))
        found[measure] = report.summary(own) | {"relative": report.ratio(theirs, own)}
    return found


def started(environment: dict[str, str]) -> Worker:
    """A worker with these variables besides ours; flags are added to those that XLA_FLAGS holds already."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} {environment.get('XLA_FLAGS', '')}".strip()
    return Worker("the step", "jax_worker", environment={**environment, "XLA_FLAGS": flags})


def ready(worker: Worker, shape: str) -> list[float]:
    """Compiles the step; the losses of its first steps."""
    worker("build", shape=shape, mode=MODE, dtype="float32")
    return [worker("cost", mode=MODE, count=1)["loss"] for _ in range(LOSSES)]


def described(found: dict[str, Any]) -> str:
    if "refused" in found:
        return f"refused: {found['refused']}"
    time, cpu = (found[name]["relative"]["median"] for name in ("seconds", "cpu_seconds"))
    return f"{time:.2f} of the default's time, {cpu:.2f} of its CPU time, losses differ by {found['losses']:.1g}"


def verdict(shapes: dict[str, dict[str, Any]]) -> str:
    """Whether one of the settings should become the default."""
    measured = {
        name: [of[name][kind]["relative"]["median"] for of in shapes.values() for kind in ("seconds", "cpu_seconds")]
        for name in SETTINGS
        if all(name in of and "refused" not in of[name] for of in shapes.values())
    }
    if not measured:
        return "no setting could be measured"
    best = min(measured, key=lambda name: statistics.fmean(measured[name]))
    ratios = measured[best]
    pairs = list(zip(ratios[::2], ratios[1::2], strict=True))
    better = any(max(pair) < 1 - GAIN for pair in pairs) and max(ratios) < 1 + GAIN
    said = ", ".join(f"{shape} {time:.2f} ({cpu:.2f})" for shape, (time, cpu) in zip(shapes, pairs, strict=True))
    advice = "make it the default" if better else "the default stays"
    return f"best: {best}, at {said} of the default's time (CPU time): {advice}"
