"""A sweep's directory: sweep.json says what was planned and which run is which; runs/<id>/ are ordinary run directories."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gpt_jax.errors import UserError
from gpt_jax.study import statistics
from gpt_jax.study.arms import Arms
from gpt_jax.study.sweep import Job, Sweep
from gpt_jax.train.metrics import read_json, read_summary, write_atomically

NAME = "sweep.json"
FAILURE = "failure.json"


@dataclasses.dataclass(frozen=True)
class Entry:
    """A run: the arms that it stands for, its seed and its steps."""

    arms: tuple[str, ...]
    seed: int
    steps: int

    @property
    def name(self) -> str:
        return f"{self.arms[0]}, seed {self.seed}"


@dataclasses.dataclass(frozen=True)
class Book:
    """What sweep.json holds; ``runs`` by id."""

    workdir: Path
    experiment: str
    question: str
    notes: tuple[str, ...]
    metric: str
    margin: float
    baseline: str | None
    arms: Arms
    seeds: tuple[int, ...]
    runs: dict[str, Entry]

    def directory(self, id: str) -> Path:
        return self.workdir / "runs" / id

    def status(self, id: str) -> str:
        """done, failed, stopped (it resumes), or new."""
        directory = self.directory(id)
        if (directory / FAILURE).exists():
            return "failed"
        if not (directory / "config.json").exists():
            return "new"
        return "done" if read_summary(directory).get("status") == "done" else "stopped"

    def failures(self) -> dict[str, str]:
        """Name of the run -> the first line of its error."""
        notes = {entry.name: read_json(self.directory(id) / FAILURE, missing={}) for id, entry in self.runs.items()}
        return {name: note["error"].splitlines()[0] for name, note in notes.items() if note}

    def done(self, arm: str) -> dict[int, Path]:
        """seed -> directory, of the runs of an arm that are done."""
        runs = {entry.seed: id for id, entry in self.runs.items() if arm in entry.arms and self.status(id) == "done"}
        return {seed: self.directory(runs[seed]) for seed in sorted(runs)}

    def values(self, metric: str = "") -> dict[str, dict[int, float]]:
        """arm -> seed -> a metric of the runs that are done, the sweep's own if none is named.

        Raises:
          UserError: a run that is done has no such metric.
        """
        metric = metric or self.metric
        table: dict[str, dict[int, float]] = {arm: {} for arm in self.arms}
        for id, entry in self.runs.items():
            if self.status(id) != "done":
                continue
            final = read_summary(self.directory(id)).get("final", {})
            if metric not in final:
                known = ", ".join(sorted(final)) or "none"
                raise UserError(f"{entry.name} has no {metric}", where="Sweep.metric", allowed=known)
            for arm in entry.arms:
                table[arm][entry.seed] = float(final[metric])
        return table

    def comparisons(self) -> list[statistics.Comparison]:
        """Every arm that has a seed in common with the baseline, against it."""
        if self.baseline is None:
            return []
        table = self.values()
        theirs = set(table[self.baseline])
        ready = {arm: row for arm, row in table.items() if arm == self.baseline or set(row) & theirs}
        return statistics.compare(ready, self.baseline, margin=self.margin) if theirs else []


def write(workdir: Path, sweep: Sweep, planned: Sequence[Job], source: Path) -> Book:
    """Plans a sweep in its directory. Runs of an earlier plan stay; those it shares with this one are not done again."""
    runs = {job.id: Entry(job.arms, job.seed, job.config.train.steps) for job in planned}
    book = Book(
        workdir,
        source.name,
        sweep.question,
        sweep.notes,
        sweep.metric,
        sweep.margin,
        sweep.baseline,
        sweep.arms,
        tuple(sweep.seeds),
        runs,
    )
    values = {name: value for name, value in dataclasses.asdict(book).items() if name != "workdir"}
    workdir.mkdir(parents=True, exist_ok=True)
    write_atomically(workdir / NAME, json.dumps(values, indent=1) + "\n")
    return book


def read(workdir: Path) -> Book:
    """The plan of a sweep's directory.

    Raises:
      UserError: there is none.
    """
    values: dict[str, Any] = read_json(workdir / NAME, missing={})
    if not values:
        raise UserError(f"{workdir} holds no sweep", where=str(workdir / NAME), fix="launch.py sweep makes one")
    runs = {id: Entry(tuple(run["arms"]), run["seed"], run["steps"]) for id, run in values["runs"].items()}
    return Book(workdir, **{**values, "seeds": tuple(values["seeds"]), "notes": tuple(values["notes"]), "runs": runs})
