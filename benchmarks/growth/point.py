"""One model, in a process of its own: ``python -m benchmarks.growth.point KNOB VALUE SCAN TOY`` prints a line of JSON."""

import json
import os
import statistics
import sys
import time
from typing import Any

import jax
import numpy as np

from benchmarks.growth import axes
from gpt_jax import backend
from gpt_jax.mesh import mesh as meshes
from gpt_jax.train.step import hyper_scalars, make_program

STEPS, SECONDS = 5, 2.0  # at most, once this much time has gone by


def measure(knob: str, value: int, scan: bool, toy: bool) -> dict[str, Any]:
    """Compile and step time in seconds, and bytes by the compiler's own count, beside what theory says."""
    config = axes.config_of(knob, value, scan, toy)
    mesh = meshes.make(config.mesh)
    jax.set_mesh(mesh)
    program, hyper = make_program(config, mesh), hyper_scalars(config)
    shape = (config.train.batch, config.model.context)
    random = np.random.default_rng(0)
    rows = {n: random.integers(config.model.vocab, size=shape, dtype=np.int32) for n in ("tokens", "targets")}
    batch = meshes.put_batch({**rows, "weights": np.ones(shape, np.float32)}, mesh)
    start = time.perf_counter()
    step = program.step.lower(program.live, batch, hyper).compile()
    compiling = time.perf_counter() - start
    state, _ = step(program.init(0), batch, hyper)
    times: list[float] = []
    while len(times) < STEPS and (not times or sum(times) < SECONDS):
        start = time.perf_counter()
        state, metrics = jax.block_until_ready(step(state, batch, hyper))
        times.append(time.perf_counter() - start)
    memory = step.memory_analysis()
    kept = memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
    return {
        "compile": compiling,
        "step": statistics.median(times),
        "memory": kept + memory.temp_size_in_bytes,
        "flops": axes.step_flops(config),
        "bytes": axes.step_bytes(config),
        "loss": float(metrics["loss"]),
    }


def main() -> None:
    knob, value, scan, toy = sys.argv[1:]
    backend.tune()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print stays out of the answer
    print(json.dumps(measure(knob, int(value), scan == "True", toy == "True")), file=answers, flush=True)


if __name__ == "__main__":
    main()
