"""The progress of a sweep on the terminal: a bar for the sweep and one for each slot; without a terminal, a line a run."""

import json
import os
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gpt_jax import bars
from gpt_jax.errors import DONE, RESUMABLE
from gpt_jax.storage import from_json
from gpt_jax.study.sweep.results import SweepResults
from gpt_jax.study.sweep.sweep import Job
from gpt_jax.train.record.metrics import NAME

_TAIL = 65536  # bytes that hold the last records, evaluations among them
TRAINING_LOSS = "train/loss"
OUTCOMES = {DONE: "done", RESUMABLE: "saved, resumable"}


class SweepProgress:
    """Context manager; ``on_start`` and ``on_end`` may be called from any thread. ``changed``: whether a run has ended."""

    def __init__(self, results: SweepResults, planned: Sequence[Job], slots: int):
        self.results, self.changed = results, False
        self.running: dict[int, Sequence[Job]] = {}
        self._lock = threading.Lock()
        total = sum(job.config.train.steps for job in planned)
        self._steps = {job.id: last(results.directory(job.id), results.metric)[0] for job in planned}
        initial = sum(self._steps.values())
        form = "{desc} {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} steps, {elapsed}<{remaining}"
        common: dict[str, Any] = dict(dynamic_ncols=True, leave=False)
        self._whole = bars.bar(total=total, initial=initial, desc="sweep", position=0, bar_format=form, **common)
        form = "{desc} {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt}{postfix}"
        slots = slots if bars.stacked() else 0
        self._bars = [bars.bar(total=1, position=i + 1, bar_format=form, **common) for i in range(slots)]

    def __enter__(self) -> "SweepProgress":
        return self

    def __exit__(self, *_: object) -> None:
        for bar in (*self._bars, self._whole):
            bar.close()

    def on_start(self, slot: int, jobs: Sequence[Job]) -> None:
        """The slot trains these runs from now on. They share one bar, with the name of the first."""
        with self._lock:
            self.running[slot] = jobs

    def on_end(self, job: Job, code: int) -> None:
        """Prints how a run ended: the sweep's metric, or why it failed."""
        self.changed = True
        directory = self.results.directory(job.id)
        step, value = last(directory, self.results.metric)
        text = f"failed: {self.results.failure(job.id)}"
        if code in OUTCOMES:
            text = f"{OUTCOMES[code]} after {step} steps" + (f", {value}" if value else "")
        self.note(f"{job.name}: {text}  ({directory})")

    def note(self, text: str) -> None:
        """Prints a line that stays."""
        with self._lock:
            bars.kind().write(text, file=sys.stderr)

    def draw(self) -> None:
        """Redraws the bars."""
        with self._lock:
            for slot, jobs in self.running.items():
                found = [last(self.results.directory(job.id), self.results.metric) for job in jobs]
                self._steps |= {job.id: step for job, (step, _) in zip(jobs, found, strict=True)}
                for job, (step, value), bar in zip(jobs, found, self._bars[slot : slot + 1], strict=False):
                    bar.total, bar.n = job.config.train.steps, step
                    others = f" (+{len(jobs) - 1})" if len(jobs) > 1 else ""
                    bar.set_description_str(f"{job.name}{others}", refresh=False)
                    bar.set_postfix_str(value, refresh=False)
                    bar.refresh()
            self._whole.n = sum(self._steps.values())
            self._whole.refresh()


def last(directory: Path, metric: str) -> tuple[int, str]:
    """The last recorded step of a run, and the last value of ``metric`` with its name; until there is one, of the training
    loss. 0 and nothing where there is no record."""
    try:
        with open(directory / NAME, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL))
            lines = file.read().splitlines()
    except OSError:
        return 0, ""
    step = 0
    values: dict[str, float] = {}
    for line in reversed(lines):
        try:
            record = from_json(json.loads(line))
        except ValueError:
            continue  # half written, or cut
        step = step or record["step"]
        for name in {metric, TRAINING_LOSS} & record.keys() - values.keys():
            values[name] = float(record[name])
        if metric in values:
            break
    name = metric if metric in values else TRAINING_LOSS
    return step, f"{name} {values[name]:.4f}" if name in values else ""
