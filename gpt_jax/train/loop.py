"""The story of a run: open it, take up its state, step until done, and leave what it learned to be seen.

The order within the loop is what makes a resumed run equal an uninterrupted one: after k updates the metrics of all k
are written, then the state is evaluated, then saved, and only then is batch k asked for.
"""

import time
from pathlib import Path
from typing import Any

import jax

from gpt_jax.config import Config
from gpt_jax.mesh import mesh as meshes
from gpt_jax.mesh import processes
from gpt_jax.train import profile
from gpt_jax.train.course import Course
from gpt_jax.train.journal import due
from gpt_jax.train.run import open_run
from gpt_jax.train.signals import StopRequest
from gpt_jax.train.step import State


def train(config: Config, workdir: str | Path, until: int = 0) -> dict[str, Any]:
    """Trains what ``config`` says in ``workdir``, from where the run there stands, and returns its summary.

    Args:
      until: a step at which to evaluate, save and leave, to be resumed; 0 = the last one.

    Raises:
      UserError: the configuration, the data or the directory do not fit; nothing has been written.
      Stopped: a signal asked for it; the state is saved.
      NonFiniteError: a loss or gradient was not finite and ``train.on_nonfinite`` is "stop".
      StorageError: the disk refuses.
    """
    begun = time.time()
    processes.start_processes()
    with StopRequest() as stop:
        run = open_run(config, workdir)
        with jax.set_mesh(run.mesh), Course.open(run, stop, begun) as (course, state):
            last = min(until or run.config.train.steps, run.config.train.steps)
            state, step = _steps(course, state, last)
            return course.end(state, step, last)


def _steps(course: Course, state: State, last: int) -> tuple[State, int]:
    """Steps until ``last``, or until a signal asks to stop; returns the saved state and its step."""
    run, journal, stop = course.run, course.journal, course.stop
    settings = run.config.train
    batches = run.data.train.batches(settings.batch, run.config.data.seed)
    rows = meshes.my_rows(run.mesh, settings.batch)
    course.catch_up(state, last)

    for k in range(course.start, last):
        with profile.step(run.workdir, settings.profile, k):
            batch = meshes.put_batch(batches.rows(k, *rows), run.mesh)
            watched = settings.watch_every and (k + 1) % settings.watch_every == 0
            begun = time.perf_counter()
            state, metrics = (run.program.watch_step if watched else run.program.step)(state, batch, journal.hyper)
            if k == course.start:  # returns when compiled and dispatched, before it has run
                journal.progress.compiled(time.perf_counter() - begun)
        step = k + 1
        journal.take(step, metrics, batch, state)

        evaluating = due(step, settings.eval_every, last)
        saving = due(step, settings.save_every, last)
        if not (evaluating or saving or stop.agreed()):
            continue
        journal.flush(state)
        loss = course.evaluate(state, step) if evaluating else None
        stopping = stop.agreed()
        if saving or stopping:
            course.save(state, step, loss)
        if stopping:
            return state, step
    return state, max(course.start, last)
