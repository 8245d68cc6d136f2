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
        _stop()


@contextlib.contextmanager
def written(window: tuple) -> Iterator[None]:
    """Writes the trace of a run that ends before the last step of ``window``."""
    try:
        yield
    finally:
        if window:
            _stop()


def _stop() -> None:
    with contextlib.suppress(
        RuntimeError
    ):  # none was started, as in a run that was resumed after ``first``; or it ended
        jax.profiler.stop_trace()
