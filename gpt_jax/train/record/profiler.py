"""A trace of some steps, for TensorBoard's profile page or Perfetto."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import jax


@contextlib.contextmanager
def step(workdir: Path, window: tuple, k: int) -> Iterator[None]:
    """Names step ``k`` in a trace, and records the trace of steps first..last of ``window`` = (first, last)."""
    if window and k == window[0]:
        jax.profiler.start_trace(str(workdir / "tensorboard"))
    with jax.profiler.StepTraceAnnotation("train", step_num=k):
        yield
    if window and k == window[1]:
        jax.effects_barrier()
        with contextlib.suppress(RuntimeError):  # a run that was resumed after ``first`` has started no trace
            jax.profiler.stop_trace()
