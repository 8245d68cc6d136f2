"""A run under way: what it holds open from being taken up to its summary, and what is done at its milestones."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jax

from gpt_jax.errors import NonFiniteError, Stopped
from gpt_jax.train import environment, finish, resume
from gpt_jax.train.checkpoint import Checkpoints
from gpt_jax.train.evaluate import evaluate
from gpt_jax.train.finite import first_bad
from gpt_jax.train.journal import Journal, due
from gpt_jax.train.lock import WorkdirLock
from gpt_jax.train.metrics import write_atomically
from gpt_jax.train.run import Run
from gpt_jax.train.signals import StopRequest
from gpt_jax.train.step import State, hyper_scalars, read_params
from gpt_jax.train.workdir import CONFIG, TOKENIZER, previous_config


@dataclass
class Course:
    """A run, its books and its checkpoints. ``start``: the updates that its state had seen when it was taken up."""

    run: Run
    checkpoints: Checkpoints
    journal: Journal
    stop: StopRequest
    start: int

    @staticmethod
    @contextlib.contextmanager
    def open(run: Run, stop: StopRequest, begun: float, together: int = 1) -> Iterator[tuple["Course", State]]:
        """Locks the run directory, takes up the run that it holds, and gives its state too.

        Args:
          begun: time at which this start began.
          together: runs that this one is trained with, itself among them.

        Raises:
          UserError: another run holds the directory, or the one there began with other settings or data.
        """
        previous, first = previous_config(run.workdir), jax.process_index() == 0
        changes = [] if previous is None else resume.check_resume(previous, run.config)
        lock = WorkdirLock(run.workdir) if first else contextlib.nullcontext()
        with lock, contextlib.closing(run.checkpoints()) as checkpoints:
            state, start, notes = _take_up(run, checkpoints)
            if first:
                write_atomically(run.workdir / CONFIG, run.config.to_json())
                environment.write(run.workdir, run.mesh.shape, together)
                if run.data.tokenizer is not None:
                    write_atomically(run.workdir / TOKENIZER, run.data.tokenizer.to_json())
            journal = Journal.open(run, hyper_scalars(run.config), start, notes, begun, together)
            with contextlib.closing(journal):
                for change in changes if start else ():
                    journal.progress.note(f"{change} (the last bits may differ from an uninterrupted run's)")
                yield Course(run, checkpoints, journal, stop, start), state

    def catch_up(self, state: State, last: int) -> None:
        """Evaluates the state that was taken up, where the run was stopped between a step and its evaluation."""
        evaluating = due(self.start, self.run.config.train.eval_every, last)
        if self.start and self.journal.evaluated != self.start and evaluating:
            self.evaluate(state, self.start)

    def evaluate(self, state: State, step: int) -> float | None:
        """Writes valid/… of the state and returns the loss; None where a signal cut it short, to be done on resuming."""
        run, journal, settings = self.run, self.journal, self.run.config.train
        with journal.progress.pause():
            fixed = run.data.valid.fixed(settings.batch, settings.eval_batches)
            params = read_params(state)
            values = evaluate(run.program.evaluate, params, fixed, run.mesh, run.byte_lengths_V, self.stop.agreed)
        if values is None:
            return None
        journal.evaluated = step
        journal.write(step, {f"valid/{name}": value for name, value in values.items() if name != "tokens"})
        shown = {"loss": "nats/token", "bits_per_byte": "bits/byte"}
        text = ", ".join(f"{values[name]:.4f} {unit}" for name, unit in shown.items() if name in values)
        journal.progress.note(f"step {step}: validation {text}")
        return values["loss"]

    def save(self, state: State, step: int, valid_loss: float | None) -> None:
        """Starts to write a checkpoint.

        Raises:
          NonFiniteError: an update has taken the state out of float32's range, though its gradient was finite.
        """
        with self.journal.progress.pause():
            if not bool(self.run.program.finite(state)):
                raise NonFiniteError(
                    f"step {step}: the state is not finite; first bad tensor: {first_bad(state)}",
                    where=str(self.run.workdir),
                    fix="lower optim.lr; the last checkpoint is whole",
                )
            self.checkpoints.save(step, self.run.program.stack(state), self.journal.notes(), valid_loss=valid_loss)

    def end(self, state: State, step: int, last: int) -> dict[str, Any]:
        """Closes the books on the saved state and returns the summary.

        Raises:
          Stopped: it was to go on until ``last``.
        """
        self.journal.close()
        self.checkpoints.wait()
        steps = self.run.config.train.steps
        done = step == steps
        summary = finish.summarise(self.run, step, self.journal.seconds, "done" if done else "stopped")
        if step < last:
            signal = self.stop.signal
            raise Stopped(
                f"stopped by {signal.name if signal else 'a signal'} after {step} of {steps} steps; the state is saved",
                where=str(self.run.workdir),
                fix="the same command resumes it",
            )
        if done and jax.process_index() == 0:
            finish.show(self.run, state, summary)
        return summary


def _take_up(run: Run, checkpoints: Checkpoints) -> tuple[State, int, dict]:
    """The state to start from, the updates it has seen, and what was noted beside it."""
    found = run.restore(checkpoints)
    if found is None:
        return run.program.init(run.config.train.seed), 0, {}
    step, state, notes = found
    resume.check_fingerprint(notes["data"], run.data.fingerprint)
    return state, step, notes
