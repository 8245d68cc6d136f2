"""A sweep's directory: sweep.json says what was planned and which run is which; runs/<id>/ are ordinary run directories."""

import bisect
import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gpt_jax import notebook
from gpt_jax.errors import UserError
from gpt_jax.storage import read_json, write_atomically, write_json
from gpt_jax.study.compare import power, statistics, verdicts
from gpt_jax.study.sweep.arms import Arms
from gpt_jax.study.sweep.sweep import Job, Sweep
from gpt_jax.train.record.metrics import read_summary

NAME = "sweep.json"
FAILURE = "failure.json"
DROPPED = "dropped.json"


@dataclasses.dataclass(frozen=True)
class PlannedRun:
    """A run: the arms that it stands for, its seed and its steps."""

    arms: tuple[str, ...]
    seed: int
    steps: int

    @property
    def name(self) -> str:
        return f"{self.arms[0]}, seed {self.seed}"


@dataclasses.dataclass(frozen=True, repr=False)
class SweepResults:
    """What sweep.json holds; ``runs`` by id. Shown, it is how the arms compare."""

    workdir: Path
    experiment: str
    question: str
    notes: tuple[str, ...]
    metric: str
    margin: float
    baseline: str | None
    arms: Arms
    seeds: tuple[int, ...]
    looks: tuple[int, ...]
    runs: dict[str, PlannedRun]

    @staticmethod
    def plan(workdir: Path, sweep: Sweep, planned: Sequence[Job], source: Path) -> "SweepResults":
        """Plans a sweep in its directory. Runs of an earlier plan stay; those it shares with this one are not done again."""
        runs = {job.id: PlannedRun(job.arms, job.seed, job.config.train.steps) for job in planned}
        results = SweepResults(
            workdir,
            source.name,
            sweep.question,
            sweep.notes,
            sweep.metric,
            sweep.margin,
            sweep.baseline,
            sweep.arms,
            tuple(sweep.seeds),
            tuple(sweep.looks),
            runs,
        )
        values = {name: value for name, value in dataclasses.asdict(results).items() if name != "workdir"}
        workdir.mkdir(parents=True, exist_ok=True)
        write_atomically(workdir / NAME, json.dumps(values, indent=1) + "\n")
        return results

    @staticmethod
    def read(workdir: Path) -> "SweepResults":
        """The plan of a sweep's directory.

        Raises:
          UserError: there is none.
        """
        values: dict[str, Any] = read_json(workdir / NAME, missing={})
        if not values:
            raise UserError(f"{workdir} holds no sweep", where=str(workdir / NAME), fix="launch.py sweep makes one")
        runs = {id: PlannedRun(tuple(run["arms"]), run["seed"], run["steps"]) for id, run in values["runs"].items()}
        lists = {name: tuple(values.get(name, ())) for name in ("seeds", "notes", "looks")}
        return SweepResults(workdir, **{**values, **lists, "runs": runs})

    def directory(self, id: str) -> Path:
        return self.workdir / "runs" / id

    def status(self, id: str) -> str:
        """done, failed, dropped (no arm that it stands for goes on), stopped (it resumes), or new."""
        directory = self.directory(id)
        if (directory / FAILURE).exists():
            return "failed"
        if read_summary(directory).get("status") == "done":
            return "done"
        if set(self.runs[id].arms) <= set(self.dropped()):
            return "dropped"
        return "stopped" if (directory / "config.json").exists() else "new"

    def dropped(self) -> dict[str, str]:
        """The arms that get no more seeds or steps, and why."""
        return read_json(self.workdir / DROPPED, missing={})

    def drop(self, arms: Mapping[str, str]) -> None:
        """Notes arms that get no more, each with the reason."""
        write_json(self.workdir / DROPPED, {**self.dropped(), **arms})

    @property
    def ended(self) -> bool:
        """Whether no run is left to do, and none failed."""
        return all(self.status(id) in ("done", "dropped") for id in self.runs)

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

    def means(self) -> dict[str, float]:
        """arm -> mean of the metric, of the arms all of whose runs are done; nan where a value is not finite."""
        table = self.values()
        return {arm: float(np.mean(list(row.values()))) for arm, row in table.items() if len(row) == len(self.seeds)}

    def clear_failures(self) -> None:
        """Has failed runs tried again."""
        for id in self.runs:
            (self.directory(id) / FAILURE).unlink(missing_ok=True)

    def comparisons(self) -> list[statistics.Comparison]:
        """Every arm that has a seed in common with the baseline, against it."""
        if self.baseline is None:
            return []
        table = self.values()
        theirs = set(table[self.baseline])
        ready = {arm: row for arm, row in table.items() if arm == self.baseline or set(row) & theirs}
        if not theirs:
            return []
        return statistics.compare(ready, self.baseline, alpha=self._alpha(ready), margin=self.margin)

    def verdicts(self) -> str:
        """How the arms compare, as text."""
        if self.baseline is None:
            return "the arms are not compared with each other"
        rows = self.comparisons()
        return verdicts.lines(rows, self.metric) if rows else "no arm can be compared with the baseline yet"

    def __repr__(self) -> str:
        done = sum(self.status(id) == "done" for id in self.runs)
        plan = f"{len(self.arms)} arms x {len(self.seeds)} seeds, {done} of {len(self.runs)} runs done"
        return f"SweepResults({plan}, in {self.workdir})\n{self.verdicts()}"

    def _repr_html_(self) -> str:
        rows = self.comparisons()
        return notebook.table(verdicts.table(rows)) if rows else notebook.text(repr(self))

    def _alpha(self, ready: Mapping[str, Mapping[int, float]]) -> float | dict[str, float]:
        """How often a verdict may err: where there are several looks, the share of the look that an arm has come to."""
        if not self.looks:
            return statistics.ALPHA
        shares = power.spending(self.looks, statistics.ALPHA)
        looks = {arm: bisect.bisect_right(self.looks, len(row)) - 1 for arm, row in ready.items()}
        return {arm: shares[max(look, 0)] for arm, look in looks.items()}


def steps_of(directory: Path) -> int:
    """How many steps a run has made, by its summary."""
    return read_summary(directory).get("steps", 0)
