"""A sweep's directory: sweep.json says what was planned and which run is which; runs/<id>/ are ordinary run directories.

Beside them, experiment.py is the text of the experiment file as it was when the sweep was last started.
"""

import bisect
import dataclasses
import json
import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gpt_jax import notebook
from gpt_jax.errors import INTERNAL, StorageError, UserError
from gpt_jax.storage import fields_that_differ, make_folder, read_json, write_atomically, write_json
from gpt_jax.study.compare import power, statistics, verdicts
from gpt_jax.study.sweep.arms import Arms
from gpt_jax.study.sweep.sweep import Job, Sweep, lower_is_better, shared_settings
from gpt_jax.train.record.metrics import read as read_metrics
from gpt_jax.train.record.metrics import read_summary

NAME = "sweep.json"
FAILURE = "failure.json"
STOPPED_EARLY = "dropped.json"
EXPERIMENT = "experiment.py"
_STORED: dict[str, Any] = {  # what sweep.json holds
    **dict.fromkeys(("experiment", "question", "metric"), str),
    **dict.fromkeys(("notes", "command"), list[str]),
    **dict.fromkeys(("seeds", "looks"), list[int]),
    "margin": float,
    "baseline": str | None,
    "arms": dict[str, dict],
    "runs": dict[str, dict],
    "shared": dict[str, list],
    "lower_is_better": bool,
}
_OPTIONAL = ("notes", "looks", "command", "shared", "lower_is_better")  # files of earlier versions lack them


@dataclasses.dataclass(frozen=True)
class PlannedRun:
    """A run: the arms that it belongs to, its seed and its steps."""

    arms: tuple[str, ...]
    seed: int
    steps: int

    @property
    def name(self) -> str:
        return f"{self.arms[0]}, seed {self.seed}"


@dataclasses.dataclass(frozen=True, repr=False)
class SweepResults:
    """What sweep.json holds.

    Args:
      experiment: name of the experiment file.
      runs: by id.
      shared: dotted knob -> (default of configs/base.py, value in all arms), of the knobs that differ.
      command: the command line that last started the sweep.
      lower_is_better: of the metric.
    """

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
    shared: Mapping[str, Sequence[Any]] = dataclasses.field(default_factory=dict)
    command: tuple[str, ...] = ()
    lower_is_better: bool = True

    @staticmethod
    def plan(
        workdir: Path, sweep: Sweep, planned: Sequence[Job], source: Path, command: Sequence[str] = ()
    ) -> "SweepResults":
        """Plans a sweep in its directory. Runs of an earlier plan stay; runs in both plans are not trained again.

        Args:
          source: the experiment file; its text is kept.
          command: the command line.
        """
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
            shared_settings(sweep.base),
            tuple(command),
            lower_is_better(sweep.metric, planned),
        )
        values = {name: value for name, value in dataclasses.asdict(results).items() if name != "workdir"}
        make_folder(workdir)
        write_atomically(workdir / NAME, json.dumps(values, indent=1) + "\n")
        if source.is_file():
            shutil.copyfile(source, workdir / EXPERIMENT)
        return results

    @staticmethod
    def read(workdir: Path) -> "SweepResults":
        """The plan of a sweep's directory.

        Raises:
          UserError: there is none.
        """
        values: dict[str, Any] = read_json(workdir / NAME, missing={}, fields=_STORED)
        if not values:
            raise UserError(f"{workdir} holds no sweep", where=str(workdir / NAME), fix="launch.py sweep writes one")
        if lacking := [name for name in _STORED if name not in values and name not in _OPTIONAL]:
            raise StorageError(f"{NAME} is damaged: it lacks {', '.join(lacking)}", where=str(workdir / NAME))
        for id, run in values["runs"].items():
            wrong = fields_that_differ(run, {"arms": list[str], "seed": int, "steps": int})
            unknown = (
                wrong or not run.get("arms") or set(run["arms"]) - set(values["arms"]) or {"seed", "steps"} - set(run)
            )
            if unknown or not id.isalnum():
                raise StorageError(f"{NAME} is damaged: run {id!r} is {run!r}", where=str(workdir / NAME))
        runs = {id: PlannedRun(tuple(run["arms"]), run["seed"], run["steps"]) for id, run in values["runs"].items()}
        lists = {name: tuple(values.get(name, ())) for name in ("seeds", "notes", "looks", "command")}
        known = {name: value for name, value in values.items() if name in _STORED}
        return SweepResults(workdir, **{**known, **lists, "runs": runs})

    def directory(self, id: str) -> Path:
        return self.workdir / "runs" / id

    def status(self, id: str) -> str:
        """done, failed, stopped early (all its arms were), resumable (started, not at its end), or new."""
        directory = self.directory(id)
        if (directory / FAILURE).exists():
            return "failed"
        if read_summary(directory).get("status") == "done":
            return "done"
        if set(self.runs[id].arms) <= set(self.stopped_early()):
            return "stopped early"
        return "resumable" if (directory / "config.json").exists() else "new"

    def stopped_early(self) -> dict[str, str]:
        """Arms that were stopped early -> the reason."""
        return read_json(self.workdir / STOPPED_EARLY, missing={}, fields=dict.fromkeys(self.arms, str))

    def stop_early(self, reasons: Mapping[str, str]) -> None:
        """Stops arms early: they get no more seeds or steps. ``reasons`` by arm."""
        write_json(self.workdir / STOPPED_EARLY, {**self.stopped_early(), **reasons})

    @property
    def complete(self) -> bool:
        """Whether no run is left to train, and none failed."""
        return all(self.status(id) in ("done", "stopped early") for id in self.runs)

    def failure(self, id: str) -> str:
        """The first line of a run's error; empty where it did not fail."""
        kept = read_json(self.directory(id) / FAILURE, missing={}, fields={"error": str})
        return kept.get("error", "").strip().partition("\n")[0]

    def failures(self) -> dict[str, str]:
        """Name of the run -> the first line of its error."""
        errors = {entry.name: self.failure(id) for id, entry in self.runs.items()}
        return {name: error for name, error in errors.items() if error}

    def failure_codes(self) -> list[int]:
        """The exit codes of the runs that failed."""
        fields = {"error": str, "code": int}
        kept = [read_json(self.directory(id) / FAILURE, missing={}, fields=fields) for id in self.runs]
        return [values.get("code", INTERNAL) for values in kept if values]

    def done(self, arm: str) -> dict[int, Path]:
        """seed -> directory, of the runs of an arm that are done."""
        runs = {entry.seed: id for id, entry in self.runs.items() if arm in entry.arms and self.status(id) == "done"}
        return {seed: self.directory(runs[seed]) for seed in sorted(runs)}

    def values(self, metric: str = "") -> dict[str, dict[int, float]]:
        """arm -> seed -> a metric of the runs that are done, the sweep's own if none is named.

        Arms that are not compared with each other may lack it, such as those that others start from.

        Raises:
          UserError: a run that is done has no such metric; without a baseline, none has when all are done.
        """
        metric = metric or self.metric
        table: dict[str, dict[int, float]] = {arm: {} for arm in self.arms}
        lacking: dict[str, str] = {}
        for id, entry in self.runs.items():
            if self.status(id) != "done":
                continue
            final = read_summary(self.directory(id)).get("final", {})
            if metric not in final:
                lacking[entry.name] = ", ".join(sorted(final)) or "none"
                continue
            for arm in entry.arms:
                table[arm][entry.seed] = float(final[metric])
        if lacking and (self.baseline is not None or self.complete and not any(table.values())):
            name, known = next(iter(lacking.items()))
            raise UserError(f"{name} has no {metric}", where="Sweep.metric", allowed=known)
        return table

    def values_at(self, step: int, metric: str = "") -> dict[str, dict[int, float]]:
        """``values`` of models cut short: as they were at the first evaluation from a step on."""
        metric = metric or self.metric
        table: dict[str, dict[int, float]] = {}
        for arm in self.arms:
            rows = {seed: read_metrics(directory) for seed, directory in self.done(arm).items()}
            table[arm] = {
                seed: next((float(row[metric]) for row in found if metric in row and row["step"] >= step), math.nan)
                for seed, found in rows.items()
            }
        return table

    def means(self) -> dict[str, float]:
        """arm -> mean of the metric, of the arms all of whose runs are done; nan where a value is not finite."""
        table = self.values()
        return {arm: float(np.mean(list(row.values()))) for arm, row in table.items() if len(row) == len(self.seeds)}

    def cost(self, value: float) -> float:
        """A value of the metric, of which the lowest is the best."""
        return value if self.lower_is_better else -value

    def clear_failures(self) -> None:
        """Lets failed runs be trained again."""
        for id in self.runs:
            (self.directory(id) / FAILURE).unlink(missing_ok=True)

    def comparisons(self) -> list[statistics.Comparison]:
        """Every arm that has a finite value at a seed at which the baseline has one, compared with it."""
        if self.baseline is None:
            return []
        ready = statistics.comparable(self.values(), self.baseline)
        if not ready:
            return []
        alpha, low = self._alpha(ready), self.lower_is_better
        return statistics.compare(ready, self.baseline, alpha=alpha, margin=self.margin, lower_is_better=low)

    def verdicts(self) -> str:
        """The comparisons with the baseline as text."""
        if self.baseline is None:
            return "the arms are not compared with a baseline"
        rows = self.comparisons()
        if not rows:
            return "no arm can be compared with the baseline yet"
        compared = {self.baseline, *(row.arm for row in rows)}
        left = [
            f"  {arm}: no finite {self.metric} at a seed at which {self.baseline} has one"
            for arm, row in self.values().items()
            if row and arm not in compared
        ]
        return "\n".join([verdicts.lines(rows, self.metric, self.lower_is_better), *left])

    def __repr__(self) -> str:
        done = sum(self.status(id) == "done" for id in self.runs)
        plan = f"{len(self.arms)} arms x {len(self.seeds)} seeds, {done} of {len(self.runs)} runs done"
        return f"SweepResults({plan}, in {self.workdir})\n{self.verdicts()}"

    def _repr_html_(self) -> str:
        rows = self.comparisons()
        return notebook.table(verdicts.table(rows)) if rows else notebook.text(repr(self))

    def _alpha(self, ready: Mapping[str, Mapping[int, float]]) -> float | dict[str, float]:
        """The significance level of the verdicts: in a group-sequential design, of the look that each arm has reached."""
        if not self.looks:
            return statistics.ALPHA
        shares = power.spending(self.looks, statistics.ALPHA)
        looks = {arm: bisect.bisect_right(self.looks, len(row)) - 1 for arm, row in ready.items()}
        return {arm: shares[max(look, 0)] for arm, look in looks.items()}


def steps_of(directory: Path) -> int:
    """Completed steps of a run, by its summary."""
    return read_summary(directory).get("steps", 0)
