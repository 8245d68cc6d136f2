"""The trainer: a run with its recorder and checkpoints, and what it does at evaluations and saves."""

import contextlib
import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jax

from gpt_jax.errors import NonFiniteError, Stopped
from gpt_jax.run_directory import CONFIG, TOKENIZER, config_json, previous_config
from gpt_jax.storage import write_atomically
from gpt_jax.train import describe, feeds, reference
from gpt_jax.train.checkpoint import resume
from gpt_jax.train.checkpoint.checkpoints import Checkpoints
from gpt_jax.train.checkpoint.lock import WorkdirLock
from gpt_jax.train.feeds import Feed, feed_of
from gpt_jax.train.feeds.tasks import Judging
from gpt_jax.train.monitors.finite import first_bad
from gpt_jax.train.monitors.watchdog import END, SAVE, Phases
from gpt_jax.train.objectives.policy import Policy
from gpt_jax.train.record import environment, summary
from gpt_jax.train.record.recorder import Recorder, due
from gpt_jax.train.run import Run
from gpt_jax.train.signals import StopRequest
from gpt_jax.train.starting import parameters
from gpt_jax.train.starting import start as starts
from gpt_jax.train.step import State, hyper_scalars


@dataclass
class Trainer:
    """A run with its feed, tasks, recorder and checkpoints. ``start``: completed updates when this process began."""

    run: Run
    feed: Feed
    judging: Judging
    checkpoints: Checkpoints
    recorder: Recorder
    stop: StopRequest
    start: int

    @staticmethod
    @contextlib.contextmanager
    def open(
        run: Run, stop: StopRequest, phases: Phases, group_size: int = 1, began: starts.Start | None = None
    ) -> Iterator[tuple["Trainer", State]]:
        """Locks the run directory and restores the run in it; gives the trainer and the state.

        Args:
          phases: the clock of this launch.
          group_size: runs trained as one program, this one included.
          began: what the run starts from, where that has been read.

        Raises:
          UserError: another process trains in the directory, the run there began with other settings or data, or it cannot
            begin at what ``tune.start`` names.
        """
        previous, first = previous_config(run.workdir, run.config), jax.process_index() == 0
        changes = [] if previous is None else resume.check_resume(previous, run.config)
        beside = [*feeds.read_beside(run), *run.read_beside]  # refused before anything is written
        began = began or read_start(run)
        params = None if began is None else _begun(run, began)  # before anything is written
        compared = reference.read(run, began)
        judging = Judging.of(run)
        lock = WorkdirLock(run.workdir) if first else contextlib.nullcontext()
        with lock, contextlib.closing(run.checkpoints()) as checkpoints:
            checkpoints.remove_leftovers()
            run = reference.attached(run, compared, keep=True)
            compared = None
            state, start, notes = _starting_state(run, checkpoints, began, params)
            if first:
                write_atomically(run.workdir / CONFIG, config_json(run.config, run.workdir.absolute()))
                environment.write(run.workdir, run.mesh.shape, group_size, notes.get("parent", {}))
                if began is not None:
                    starts.carry(began.where, run.workdir)
                if run.data.tokenizer is not None:
                    write_atomically(run.workdir / TOKENIZER, run.data.tokenizer.to_json())
                for held in beside:
                    held.keep(run.workdir)
            began = params = None  # the state has them
            recorder = Recorder.open(run, hyper_of(run), start, notes, phases, group_size)
            with contextlib.closing(recorder), contextlib.closing(recorder.goodput):
                for change in changes if start else ():
                    recorder.progress.note(f"{change} (the last bits may differ from an uninterrupted run's)")
                for step, loss in _losses(run, recorder).items():
                    checkpoints.evaluated(step, loss)
                judging = dataclasses.replace(judging, run=run)
                yield Trainer(run, feed_of(run, notes), judging, checkpoints, recorder, stop, start), state

    def evaluate_if_missed(self, state: State, last: int) -> None:
        """Evaluates the restored state, where the run was stopped between a step and its evaluation."""
        evaluating = due(self.start, self.run.config.train.eval_every, last)
        begins = self.start or self.run.program.recipe.objective.begins
        if begins and self.recorder.evaluated != self.start and evaluating:
            self.evaluate(state, self.start)

    def evaluate(self, state: State, step: int) -> float | None:
        """Writes valid/… of the state and returns what the best checkpoint has least of; None where a signal cut it short,
        to be done on resuming."""
        recorder = self.recorder
        with recorder.progress.pause():
            values = self.feed.evaluate(state, step, self.stop.agreed)
            judged = None if values is None else self.judging.evaluate(state, self.stop.agreed)
        if values is None or judged is None:
            return None
        recorder.evaluated = step
        recorder.goodput.write(step)
        written = {name: value for name, value in values.items() if name != "tokens"} | judged
        recorder.write(step, {f"valid/{name}": value for name, value in written.items()})
        objective = self.run.program.recipe.objective
        text = ", ".join(f"{values[name]:.4f} {unit}" for name, unit in objective.shown.items() if name in values)
        recorder.progress.note(f"step {step}: validation {text} {self.feed.covered()}")
        if judged:
            shown = ", ".join(f"{name} {value:.4g}" for name, value in judged.items() if name.count("/") == 1)
            recorder.progress.note(f"step {step}: {shown}")
        loss = objective.best.as_loss(values)
        self.checkpoints.evaluated(step, loss)
        return loss

    def save(self, state: State, step: int, valid_loss: float | None) -> None:
        """Starts to write a checkpoint.

        Args:
          valid_loss: what ``evaluate`` gave of the state.

        Raises:
          NonFiniteError: an update has taken the state out of float32's range, though its gradient was finite.
        """
        with self.recorder.progress.pause():
            if not bool(self.run.program.finite(state)):
                raise NonFiniteError(
                    f"step {step}: the state is not finite; first bad tensor: {first_bad(state)}",
                    where=str(self.run.workdir),
                    fix="lower optim.lr; the last checkpoint is intact",
                )
            notes = self.recorder.notes() | self.feed.notes()
            self.checkpoints.save(step, self.run.program.stack(state), notes, valid_loss=valid_loss)
        self.recorder.goodput.write(step)

    def finish(self, state: State, step: int, last: int) -> dict[str, Any]:
        """Closes recorder and checkpoints after the last save and returns the summary.

        Raises:
          Stopped: it should have trained until ``last``.
        """
        phases = self.recorder.phases
        phases.begin(SAVE, step)
        self.recorder.close()
        self.checkpoints.wait()
        phases.begin(END, step)
        steps = self.run.config.train.steps
        done = step == steps
        values = summary.summarise(self.run, step, self.recorder, "done" if done else "stopped")
        self.recorder.goodput.write(step)
        if step < last:
            signal = self.stop.signal
            raise Stopped(
                f"stopped by {signal.name if signal else 'a signal'} after {step} of {steps} steps; a checkpoint is saved",
                where=str(self.run.workdir),
                fix="the same command resumes it",
            )
        if done and jax.process_index() == 0:
            summary.show(self.run, state, values, self.feed.covered())
            values |= summary.write_seconds(self.run, values, self.recorder)
        self.recorder.goodput.write(step)
        return values


def hyper_of(run: Run) -> dict[str, Any]:
    """What a run's steps take as arguments beside state and batch."""
    scalars: dict[str, Any] = dict(hyper_scalars(run.config))
    return {**scalars, "fixed": run.fixed} if run.fixed else scalars


def read_start(run: Run) -> starts.Start | None:
    """What a run starts from; None where that is nothing, or the run has begun and needs it no longer.

    Raises:
      UserError: there is no such model.
      StorageError: it is damaged.
    """
    where = run.config.tune.start
    return starts.read(where, run.config.to_dict()) if where and not starts.has_begun(run.workdir) else None


def _begun(run: Run, began: starts.Start) -> dict:
    params, notes = starts.begun(began, run.config, run.data)
    for note in [f"the parameters of {began.where}, step {began.step}", *notes]:
        describe.on_stderr("start", note)
    return params


def _losses(run: Run, recorder: Recorder) -> dict[int, float]:
    """Step -> what the best checkpoint has least of, of the evaluations that have been recorded; {} but in process 0."""
    best = run.program.recipe.objective.best
    name, evaluations = f"valid/{best.metric}", recorder.log.evaluations if recorder.log is not None else {}
    return {s: best.as_loss({best.metric: found[name]}) for s, found in evaluations.items() if name in found}


def _starting_state(
    run: Run, checkpoints: Checkpoints, began: starts.Start | None, params: dict | None
) -> tuple[State, int, dict]:
    """The state to start from, its completed updates, and the notes of its checkpoint."""
    found = run.restore(checkpoints)
    if found is not None:
        step, state, notes = found
        resume.check_fingerprint(notes["data"], run.data.fingerprint)
        return state, step, notes
    seed = run.config.train.seed
    if began is None or params is None:
        return run.program.init(seed), 0, {}
    if not run.program.recipe.adapter.alone or isinstance(run.program.recipe.objective, Policy):
        parameters.write_base(run.workdir, params)
    return run.program.init(seed, run.on_mesh(params)), 0, {"parent": began.parent}
