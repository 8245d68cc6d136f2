"""The story of a run: open it, take up its state, step until done, and leave what it learned to be seen.

The order within the loop is what makes a resumed run equal an uninterrupted one: after k updates the metrics of all k
are written, then the state is evaluated, then saved, and only then is batch k asked for.
"""

import contextlib
import time
from pathlib import Path
from typing import Any

import jax

from gpt_jax.config import Config
from gpt_jax.errors import NonFiniteError, Stopped
from gpt_jax.mesh import mesh as meshes
from gpt_jax.mesh import processes
from gpt_jax.train import environment, finish, profile, resume
from gpt_jax.train.checkpoint import Checkpoints
from gpt_jax.train.evaluate import evaluate
from gpt_jax.train.finite import first_bad
from gpt_jax.train.journal import Journal, due
from gpt_jax.train.lock import WorkdirLock
from gpt_jax.train.metrics import write_atomically
from gpt_jax.train.run import Run, open_run
from gpt_jax.train.signals import StopRequest
from gpt_jax.train.step import State, hyper_scalars, read_params
from gpt_jax.train.workdir import CONFIG, TOKENIZER, previous_config


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
    first = jax.process_index() == 0
    with StopRequest() as stop:
        run = open_run(config, workdir)
        previous = previous_config(run.workdir)
        changes = [] if previous is None else resume.check_resume(previous, run.config)
        lock = WorkdirLock(run.workdir) if first else contextlib.nullcontext()
        with lock, contextlib.closing(run.checkpoints()) as checkpoints, jax.set_mesh(run.mesh):
            state, start, notes = _take_up(run, checkpoints)
            if first:
                write_atomically(run.workdir / CONFIG, run.config.to_json())
                environment.write(run.workdir, run.mesh.shape)
                if run.data.tokenizer is not None:
                    write_atomically(run.workdir / TOKENIZER, run.data.tokenizer.to_json())
            hyper = hyper_scalars(run.config)
            with Journal.open(run, hyper, start, notes) as journal:
                for change in changes if start else ():
                    journal.progress.note(f"{change} (the last bits may differ from an uninterrupted run's)")
                last = min(until or run.config.train.steps, run.config.train.steps)
                state, step = _steps(run, state, start, last, checkpoints, journal, stop)
            checkpoints.wait()
            done = step == run.config.train.steps
            seconds = notes.get("seconds", 0.0) + time.time() - begun
            summary = finish.summarise(run, step, seconds, "done" if done else "stopped")
            if step < last:
                raise Stopped(
                    f"stopped by {stop.signal.name if stop.signal else 'a signal'} after {step} of "
                    f"{run.config.train.steps} steps; the state is saved",
                    where=str(run.workdir),
                    fix="the same command resumes it",
                )
            if first and done:
                finish.show(run, state, summary)
    return summary


def _take_up(run: Run, checkpoints: Checkpoints) -> tuple[State, int, dict]:
    """The state to start from, the updates it has seen, and what was noted beside it."""
    found = run.restore(checkpoints)
    if found is None:
        return run.program.init(run.config.train.seed), 0, {}
    step, state, notes = found
    resume.check_fingerprint(notes["data"], run.data.fingerprint)
    return state, step, notes


def _steps(
    run: Run, state: State, start: int, last: int, checkpoints: Checkpoints, journal: Journal, stop: StopRequest
) -> tuple[State, int]:
    """Steps until ``last``, or until a signal asks to stop; returns the saved state and its step."""
    settings = run.config.train
    batches = run.data.train.batches(settings.batch, run.config.data.seed)
    rows = meshes.my_rows(run.mesh, settings.batch)
    # The run may have been stopped between a step and its evaluation.
    if start and journal.evaluated != start and due(start, settings.eval_every, last):
        _evaluate(run, state, start, journal, stop)

    for k in range(start, last):
        with profile.step(run.workdir, settings.profile, k):
            batch = meshes.put_batch(batches.rows(k, *rows), run.mesh)
            watched = settings.watch_every and (k + 1) % settings.watch_every == 0
            begun = time.perf_counter()
            state, metrics = (run.program.watch_step if watched else run.program.step)(state, batch, journal.hyper)
            if k == start:  # returns when compiled and dispatched, before it has run
                journal.progress.compiled(time.perf_counter() - begun)
        step = k + 1
        journal.take(step, metrics, batch, state)

        evaluating = due(step, settings.eval_every, last)
        saving = due(step, settings.save_every, last)
        if not (evaluating or saving or stop.agreed()):
            continue
        journal.flush(state)
        loss = _evaluate(run, state, step, journal, stop) if evaluating else None
        stopping = stop.agreed()
        if saving or stopping:
            with journal.progress.pause():
                _check_finite(run, state, step)
                checkpoints.save(step, run.program.stack(state), journal.notes(), valid_loss=loss)
        if stopping:
            return state, step
    return state, max(start, last)


def _check_finite(run: Run, state: State, step: int) -> None:
    """Refuses to save a state that an update has taken out of float32's range, though its gradient was finite."""
    if not bool(run.program.finite(state)):
        raise NonFiniteError(
            f"step {step}: the state is not finite; first bad tensor: {first_bad(state)}",
            where=str(run.workdir),
            fix="lower optim.lr; the last checkpoint is whole",
        )


def _evaluate(run: Run, state: State, step: int, journal: Journal, stop: StopRequest) -> float | None:
    """Writes valid/… of the state and returns the loss; None where a signal cut it short, to be done on resuming."""
    settings = run.config.train
    with journal.progress.pause():
        fixed = run.data.valid.fixed(settings.batch, settings.eval_batches)
        params = read_params(state)
        values = evaluate(run.program.evaluate, params, fixed, run.mesh, run.byte_lengths_V, stop.agreed)
    if values is None:
        return None
    journal.evaluated = step
    journal.write(step, {f"valid/{name}": value for name, value in values.items() if name != "tokens"})
    shown = {"loss": "nats/token", "bits_per_byte": "bits/byte"}
    text = ", ".join(f"{values[name]:.4f} {unit}" for name, unit in shown.items() if name in values)
    journal.progress.note(f"step {step}: validation {text}")
    return values["loss"]
