"""A run from start to end: open it, restore its state, step until done, and write its summary.

The order within the loop is what makes a resumed run equal an uninterrupted one: after k updates the metrics of all k
are written, then the state is evaluated, then saved, and only then is batch k asked for.
"""

from pathlib import Path
from typing import Any

import jax

from gpt_jax.config import Config
from gpt_jax.mesh import presence, processes
from gpt_jax.train import describe
from gpt_jax.train.monitors.finite import found_by_jax
from gpt_jax.train.monitors.watchdog import COMPILE, DATA, EVALUATION, RESTORE, ROLLOUTS, SAVE, STEP, Phases, Watchdog
from gpt_jax.train.record import profiler
from gpt_jax.train.record.recorder import due
from gpt_jax.train.run import open_run
from gpt_jax.train.signals import StopRequest
from gpt_jax.train.step import State, compile_step
from gpt_jax.train.trainer import Trainer


def train(config: Config, workdir: str | Path, until: int = 0) -> dict[str, Any]:
    """Trains ``config`` in ``workdir``, resuming the run that is there, and returns its summary.

    Args:
      until: a step at which to evaluate, save and stop, to be resumed, or the first one after it between two rollouts;
        0 = the last one.

    Raises:
      UserError: the configuration, the data or the directory do not fit; nothing has been written.
      Stopped: a signal asked for it; the state is saved.
      NonFiniteError: a loss or gradient was not finite and ``train.on_nonfinite`` is "stop".
      StorageError: the disk refuses.
    """
    phases = Phases()
    processes.start_processes(config.mesh)
    with presence.counting(), presence.naming(), StopRequest() as stop:
        stop.nothing_to_save()
        run = open_run(config, workdir, describe.on_stderr)
        describe.on_stderr("run directory", describe.directory(run.workdir))
        phases.begin(RESTORE)
        with (
            jax.set_mesh(run.mesh),
            found_by_jax(run.workdir),
            profiler.written(run.config.train.profile),
            Watchdog(run.workdir, run.config.mesh, phases),
            Trainer.open(run, stop, phases) as (trainer, state),
        ):
            steps, every = run.config.train.steps, trainer.feed.every
            last = min(-(-until // every) * every or steps, steps)
            state, step = _steps(trainer, state, last)
            stop.wait_for_steps()
            return trainer.finish(state, step, last)


def _steps(trainer: Trainer, state: State, last: int) -> tuple[State, int]:
    """Steps until ``last``, or until a signal asks to stop; returns the saved state and its step."""
    run, recorder, stop = trainer.run, trainer.recorder, trainer.stop
    settings = run.config.train
    feed, phases = trainer.feed, recorder.phases
    compiled: set[jax.stages.Wrapped] = set()
    phases.begin(EVALUATION, trainer.start)
    trainer.evaluate_if_missed(state, last)
    stop.check()

    for k in range(trainer.start, last):
        phases.begin(STEP, k)
        if feed.waits:
            recorder.flush(state)
        with profiler.step(run.workdir, settings.profile, k):
            phases.begin(ROLLOUTS if feed.waits else DATA, k)
            batch, said = feed.batch(k, state)
            if not recorder.idle:
                phases.rename(STEP)  # no device has waited for the batch
            watched = settings.watch_every and (k + 1) % settings.watch_every == 0
            advance = run.program.watch_step if watched else run.program.step
            if advance not in compiled:
                recorder.flush(state)
                phases.begin(COMPILE, k)
                with recorder.progress.pause():
                    recorder.progress.compiled(compile_step(advance, state, batch, recorder.hyper))
                compiled.add(advance)
                stop.wait_for_steps()
            phases.begin(STEP, k)
            state, metrics = advance(state, batch, recorder.hyper)
        step = k + 1
        recorder.queue(step, {**metrics, **said}, batch, state)

        evaluating = due(step, settings.eval_every, last)
        saving = due(step, settings.save_every, last)
        if step % feed.every or not (evaluating or saving or stop.agreed()):
            continue
        recorder.flush(state)
        phases.begin(EVALUATION, step)
        loss = trainer.evaluate(state, step) if evaluating else None
        stopping = stop.agreed()
        if saving or stopping:
            phases.begin(SAVE, step)
            trainer.save(state, step, loss)
        if stopping:
            return state, step
    return state, max(trainer.start, last)
