"""Everything a run writes while it steps: metrics.jsonl, the trackers, the progress line, and the notes of checkpoints."""

import math
import os
from dataclasses import dataclass
from typing import Any

import jax

from gpt_jax.errors import NonFiniteError
from gpt_jax.mesh import collectives, memory
from gpt_jax.model import flops
from gpt_jax.train.monitors import watch
from gpt_jax.train.monitors.watchdog import Phases
from gpt_jax.train.record.goodput import Goodput
from gpt_jax.train.record.metrics import MetricsLog
from gpt_jax.train.record.progress import Progress
from gpt_jax.train.record.trackers import Trackers
from gpt_jax.train.run import Run
from gpt_jax.train.step import Batch, State, first_bad_tensor

FIRST = ("loss", "z_loss", "grad_norm")  # of a record's means
NO_MEANS = ("tokens", "lr", "skipped")  # of the metrics of steps


def due(step: int, every: int, last: int) -> bool:
    """Whether something done ``every`` so many steps, and at the last, is done after ``step`` updates."""
    return step % every == 0 or step == last


@dataclass
class Recorder:
    """What a run writes to. It reads the metrics of a step when the next one has been dispatched.

    ``window`` holds the metrics since the last train/… record and ``evaluated`` the last step with a valid/… record; a
    checkpoint keeps both, so that a resumed run writes the records an uninterrupted one would have. ``group_size``
    runs are trained as one program: speeds are those of all of them, and each counts its share of the seconds. ``phases`` is
    the clock of this launch.
    """

    run: Run
    hyper: dict
    log: MetricsLog | None  # None on all processes but the first
    trackers: Trackers | None
    progress: Progress
    phases: Phases
    goodput: Goodput
    window: list[dict[str, float]]
    evaluated: int
    skipped: int
    parent: dict[str, Any]  # what training started from; {} where that is nothing
    previous_training_seconds: float  # of earlier starts
    group_size: int
    pending: tuple[int, dict, Batch] | None = None

    @staticmethod
    def open(run: Run, hyper: dict, start: int, notes: dict[str, Any], phases: Phases, group_size: int) -> "Recorder":
        """The recorder of a run that starts, or resumes, after ``start`` updates with a checkpoint's ``notes``."""
        settings, first, resume_step = run.config.train, jax.process_index() == 0, start if start else -1
        asked = settings.tensorboard, settings.wandb, run.config.to_dict(), resume_step
        peak = flops.peak(jax.devices()) if first else None
        screen = None if first else open(os.devnull, "w")
        log = MetricsLog(run.workdir, resume_step) if first else None
        # A checkpoint that a signal had saved before its evaluation was done does not know of one that came later.
        evaluated = collectives.all_reduce_max(int(log is not None and start in log.evaluations))
        recorder = Recorder(
            run=run,
            hyper=hyper,
            log=log,
            trackers=Trackers(run.workdir, *asked) if first else None,
            progress=Progress(
                settings.steps, start, group_size * run.tokens_per_step, run.flops_per_token, peak, screen
            ),
            phases=phases,
            goodput=Goodput(run.workdir if first else None, phases, group_size, start, notes),
            window=notes.get("window", []),
            evaluated=start if evaluated else notes.get("evaluated", -1),
            skipped=notes.get("skipped", 0),
            parent=notes.get("parent", {}),
            previous_training_seconds=notes.get("training_seconds", 0.0),
            group_size=group_size,
        )
        if start:
            recorder.progress.note(f"resumed after {start} of {settings.steps} steps")
        return recorder

    def close(self) -> None:
        """May be called again."""
        self.progress.close()
        for results in (self.log, self.trackers):
            if results is not None:
                results.close()

    @property
    def training_seconds(self) -> float:
        """Wall-clock time of steps over all starts of the run: without compilation, evaluation and saving."""
        return self.previous_training_seconds + self.progress.training_seconds / self.group_size

    @property
    def idle(self) -> bool:
        """Whether the devices have done every step that they were given."""
        return self.pending is None or self.pending[1]["loss"].is_ready()

    def queue(self, step: int, metrics: dict, batch: Batch, state: State) -> None:
        """Writes the metrics of the step before and keeps those of ``step``, which leads to ``state``, for the next call."""
        self.flush(state)
        self.pending = step, metrics, batch

    def flush(self, state: State) -> None:
        """Waits for the step that ``queue`` kept and writes its metrics.

        Raises:
          NonFiniteError: its loss or gradient was not finite, and the configuration says stop.
        """
        if self.pending is None:
            return
        (step, metrics, batch), self.pending = self.pending, None
        metrics = jax.device_get(metrics)
        values = {name: float(value) for name, value in metrics.items() if not name.startswith("watch/")}
        if values["skipped"] > self.skipped:
            self._not_finite(step, values, state, batch)
        self.window.append(values)
        self.progress.update(step, values["loss"])
        record = self._watched(metrics)
        if due(step, self.run.config.train.log_every, self.run.config.train.steps):
            record |= self._window_record()
        if record:
            self.write(step, record)
        self.goodput.write(step)

    def write(self, step: int, values: dict[str, float]) -> None:
        """Appends a record to metrics.jsonl and shows it to the trackers."""
        if self.log is not None and self.trackers is not None:
            self.log.write(step, {"tokens": step * self.run.tokens_per_step, **values})
            self.trackers.scalars(step, values)

    def notes(self) -> dict[str, Any]:
        """What a checkpoint keeps beside the state. Waits until all records are on the disk."""
        if self.log is not None:
            self.log.sync()
        return {
            "data": self.run.data.fingerprint,
            "window": self.window,
            "evaluated": self.evaluated,
            "skipped": self.skipped,
            **({"parent": self.parent} if self.parent else {}),
            "goodput": self.goodput.notes(),
            "training_seconds": self.training_seconds,
        }

    def _window_record(self) -> dict[str, float]:
        """The means since the last such record, over the steps that were not skipped."""
        counted = [
            values for values in self.window if math.isfinite(values["loss"] + values["grad_norm"])
        ] or self.window
        first = [name for name in FIRST if name in counted[0]]
        names = [*first, *(name for name in counted[0] if name not in (*FIRST, *NO_MEANS))]
        means = {name: math.fsum(v[name] for v in counted) / len(counted) for name in names}
        if not self.run.config.train.z_loss:
            means.pop("z_loss", None)
        last = self.window[-1]
        self.window = []
        means = self.run.program.recipe.objective.reported(means)
        record = {f"train/{name}": value for name, value in means.items()}
        record |= {f"train/{name}": last[name] for name in ("lr", "skipped")}
        rate = self.progress.tokens_per_second
        speeds = {
            "tokens_per_second": rate,
            "tokens_per_second_per_device": rate and rate / self.run.mesh.size,
            "mfu": self.progress.mfu,
            "peak_bytes": memory.peak_bytes(),
        }
        return record | {f"speed/{name}": value for name, value in speeds.items() if value is not None}

    def _watched(self, metrics: dict) -> dict[str, float]:
        record: dict[str, float] = {}
        period = len(self.run.config.model.attentions)
        for kind in ("params", "grads", "updates"):
            prefix = f"watch/{kind}/"
            values = {name[len(prefix) :]: value for name, value in metrics.items() if name.startswith(prefix)}
            record |= watch.named(kind, values, period) if values else {}
        return record

    def _not_finite(self, step: int, values: dict[str, float], state: State, batch: Batch) -> None:
        self.skipped = int(values["skipped"])
        tensor = first_bad_tensor(self.run.program, state, batch, self.hyper)
        what = f"step {step}: loss {values['loss']}, gradient norm {values['grad_norm']}; first bad tensor: {tensor}"
        if self.run.config.train.on_nonfinite == "stop":
            raise NonFiniteError(
                what,
                where=str(self.run.workdir),
                fix="lower optim.lr or optim.clip, or --config.train.on_nonfinite=skip; the last checkpoint is intact",
            )
        self.progress.note(f"{what}; this update is skipped")
