"""Whether training steps are exact: the same twice, and the same resumed, to the last bit; and what that costs."""

import functools
import statistics
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.gpu.pieces import Parts, Task
from benchmarks.gpu.steps import ANY_ORDER, Running, config_of

STEPS = 8
SETTINGS: dict[str, dict[str, Any]] = {
    "exclude_nondeterministic_ops": {},
    "sums in any order": ANY_ORDER,
    "deterministic_ops": {"xla_gpu_deterministic_ops": True},
}
KEPT = ("exclude_nondeterministic_ops", "sums in any order")  # resumed in another process as well


def exact(task: Task) -> Parts:
    """GPT-2 124M under each setting, twice and resumed within this process."""
    for label, options in SETTINGS.items():
        yield label, functools.partial(_exact, task, label, options)


def resumed(task: Task) -> Parts:
    """The second half of ``exact``'s steps in this process, from what it has left in the scratch folder."""
    for label in KEPT:
        yield label, functools.partial(_resumed, task, label)


def _exact(task: Task, label: str, options: dict[str, Any]) -> dict[str, Any]:
    running = Running(config_of(task, "124m", 16), options)
    times = running.rounds()
    running.state = None
    whole = _advance(running, running.program.init(0), 0, STEPS)
    again = _difference(whole, _advance(running, running.program.init(0), 0, STEPS))
    half = jax.device_get(_advance(running, running.program.init(0), 0, STEPS // 2))
    if label in KEPT:
        _save(_file(task, label, "half"), half)
        _save(_file(task, label, "whole"), jax.device_get(whole))
    parts = _difference(whole, _advance(running, _put(running, half), STEPS // 2, STEPS))
    return {
        "again_differing": again[0],
        "again_largest": again[1],
        "resumed_differing": parts[0],
        "resumed_largest": parts[1],
        "numbers": sum(leaf.size for leaf in jax.tree.leaves(whole)),
        "ms": 1e3 * statistics.median(times),
        "compile_s": running.compile_seconds,
        "from_cache": running.cached,
        "steps": STEPS,
        "device": jax.devices()[0].device_kind,
    }


def _resumed(task: Task, label: str) -> dict[str, Any]:
    paths = [_file(task, label, part) for part in ("half", "whole")]
    if not all(path.exists() for path in paths):
        raise RuntimeError("there is nothing to resume: run the piece exact before this one, in one call")
    running = Running(config_of(task, "124m", 16), SETTINGS[label])
    half, whole = (_put(running, _load(path, running.program.live)) for path in paths)
    differing, largest = _difference(whole, _advance(running, half, STEPS // 2, STEPS))
    return {
        "resumed_differing": differing,
        "resumed_largest": largest,
        "compile_s": running.compile_seconds,
        "from_cache": running.cached,
        "device": jax.devices()[0].device_kind,
    }


def _advance(running: Running, state: Any, first: int, end: int) -> Any:
    """The state after the steps, each with a batch of its own."""
    for k in range(first, end):
        state, _ = running.step(state, running.put(k), running.hyper)
    return jax.block_until_ready(state)


@jax.jit
def _compare(a: Any, b: Any) -> tuple[jax.Array, jax.Array]:
    """By leaf: numbers whose bits differ, and the largest difference."""
    pairs = list(zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))
    bits = [tuple(jax.lax.bitcast_convert_type(leaf, jnp.uint32) for leaf in pair) for pair in pairs]
    counts = jnp.stack([(x != y).sum() for x, y in bits])
    return counts, jnp.stack([jnp.abs(x - y).max().astype(jnp.float32) for x, y in pairs])


def _difference(a: Any, b: Any) -> tuple[int, float]:
    counts, largest = _compare(a, b)
    return int(np.asarray(counts, np.int64).sum()), float(largest.max())


def _put(running: Running, state: Any) -> Any:
    return jax.tree.map(lambda leaf, like: jax.device_put(leaf, like.sharding), state, running.program.live)


def _file(task: Task, label: str, part: str) -> Path:
    return task.scratch / f"{label}-{part}.npz"


def _save(path: Path, state: Any) -> None:
    np.savez(path, *jax.tree.leaves(state))


def _load(path: Path, like: Any) -> Any:
    with np.load(path) as arrays:
        return jax.tree.unflatten(jax.tree.structure(like), [arrays[f"arr_{k}"] for k in range(len(arrays.files))])
