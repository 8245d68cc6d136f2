"""What the terminal shows of a sweep: a bar for the whole and one for every run at hand; elsewhere, lines as runs end."""

import json
import os
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gpt_jax import bars
from gpt_jax.errors import DONE, RESUMABLE
from gpt_jax.study.sweep.results import SweepResults
from gpt_jax.study.sweep.sweep import Job
from gpt_jax.train.record.metrics import NAME

_TAIL = 4096  # bytes that hold the last record


class SweepProgress:
    """Context manager; ``begin`` and ``ended`` may be called from any thread. ``news``: whether a run has ended."""

    def __init__(self, results: SweepResults, planned: Sequence[Job], slots: int):
        self.results, self.news = results, False
        self.at_hand: dict[int, Sequence[Job]] = {}
        self._lock = threading.Lock()
        total = sum(job.config.train.steps for job in planned)
        self._steps = {job.id: last(results.directory(job.id))[0] for job in planned}
        begun = sum(self._steps.values())
        form = "{desc} {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} steps, {elapsed}<{remaining}"
        common: dict[str, Any] = dict(dynamic_ncols=True, leave=False)
        self._whole = bars.bar(total=total, initial=begun, desc="sweep", position=0, bar_format=form, **common)
        form = "{desc} {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt}{postfix}"
        slots = slots if bars.stacked() else 0
        self._bars = [bars.bar(total=1, position=i + 1, bar_format=form, **common) for i in range(slots)]

    def __enter__(self) -> "SweepProgress":
        return self

    def __exit__(self, *_: object) -> None:
        for bar in (*self._bars, self._whole):
            bar.close()

    def begin(self, slot: int, jobs: Sequence[Job]) -> None:
        """Says which runs a slot trains from now on, side by side; it has one bar, with the name of the first."""
        with self._lock:
            self.at_hand[slot] = jobs

    def ended(self, job: Job, code: int) -> None:
        how = {DONE: "done", RESUMABLE: "saved, to be resumed"}.get(code, f"failed with {code}: see log.txt")
        self.news = True
        step, loss = last(self.results.directory(job.id))
        self.note(f"{job.name}: {how} after {step} steps, loss {loss:.4f}  ({self.results.directory(job.id)})")

    def note(self, text: str) -> None:
        with self._lock:
            bars.kind().write(text, file=sys.stderr)

    def draw(self) -> None:
        with self._lock:
            for slot, jobs in self.at_hand.items():
                found = [last(self.results.directory(job.id)) for job in jobs]
                self._steps |= {job.id: step for job, (step, _) in zip(jobs, found, strict=True)}
                for job, (step, loss), bar in zip(jobs, found, self._bars[slot : slot + 1], strict=False):
                    bar.total, bar.n = job.config.train.steps, step
                    others = f" (+{len(jobs) - 1})" if len(jobs) > 1 else ""
                    bar.set_description_str(f"{job.name}{others}", refresh=False)
                    bar.set_postfix_str(f"loss {loss:.4f}", refresh=False)
                    bar.refresh()
            self._whole.n = sum(self._steps.values())
            self._whole.refresh()


def last(directory: Path) -> tuple[int, float]:
    """The step and training loss of the last record of a run; 0 and nan where there is none."""
    try:
        with open(directory / NAME, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL))
            lines = file.read().splitlines()
    except OSError:
        return 0, float("nan")
    for line in reversed(lines):
        try:
            record = json.loads(line)
        except ValueError:
            continue  # half written, or cut
        if "train/loss" in record:
            return record["step"], float(record["train/loss"])
    return 0, float("nan")
