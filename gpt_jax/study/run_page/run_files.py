"""What the files of a run say: its settings, its records, and whether it is done, was stopped or killed, or goes on."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpt_jax import configs
from gpt_jax.config import Config
from gpt_jax.judge.opened import names_of
from gpt_jax.storage import damaged, fields_that_differ, read_json
from gpt_jax.train.checkpoint import lock
from gpt_jax.train.objectives import Objective
from gpt_jax.train.record import environment, goodput, metrics
from gpt_jax.train.step import objective_of

TENTH = 0.1  # of the records with a value: what its means at first and at the end are taken over
_START: dict[str, Any] = {
    **dict.fromkeys(("time", "host"), str),
    **{"argv": list[str], "devices": dict[str, int], "packages": dict[str, str], "cpus": int | None, "parent": dict},
}


@dataclass(frozen=True)
class RunFiles:
    """What a run directory holds.

    Attributes:
      records: of metrics.jsonl, numbers alone; they need not be finite.
      summary: {} before the run has ended for the first time.
      starts: of environment.json.
      owner: the process that trains it now; {} where none does.
      goodput: of goodput.json, up to its last step; {} for runs that were trained before there was such a file.
    """

    workdir: Path
    config: Config
    objective: Objective
    records: list[dict[str, Any]]
    summary: dict[str, Any]
    starts: list[dict[str, Any]]
    owner: dict[str, Any]
    goodput: dict[str, Any]

    @staticmethod
    def read(workdir: Path) -> "RunFiles":
        """Of a run directory.

        Raises:
          UserError: it holds no run, or the configuration is damaged.
          StorageError: another of its files is.
        """
        config = Config.from_dict(configs.of_run(workdir))
        records = [
            {name: value for name, value in record.items() if isinstance(value, int | float)}
            for record in metrics.read(workdir)
        ]
        files = records, metrics.read_summary(workdir), _starts(workdir / environment.NAME), lock.owner(workdir)
        return RunFiles(workdir, config, objective_of(config), *files, goodput.read(workdir))

    @property
    def step(self) -> int:
        """Of the last record."""
        return self.records[-1]["step"] if self.records else 0

    @property
    def status(self) -> str:
        """ "running", what summary.json says where nothing has happened since (done, stopped), or "killed"."""
        said = self.summary.get("status") if self.summary.get("steps", -1) >= self.step else None
        return "running" if self.owner else said if said in ("done", "stopped") else "killed"

    @property
    def best(self) -> dict[str, Any]:
        """The record of the best evaluation; {} where there is none with a finite value."""
        best = self.objective.best
        return metrics.summarise(self.records, f"valid/{best.metric}", best.highest)["best"]

    def points(self, name: str) -> list[tuple[int, float]]:
        """(step, value) of the records in which it is finite."""
        return [(r["step"], r[name]) for r in self.records if math.isfinite(r.get(name, math.nan))]

    def of_tasks(self) -> dict[str, list[str]]:
        """The figures of the tasks that it is asked while it is trained, by task; those of groups of problems are not among
        them."""
        known = dict.fromkeys(name for record in self.records for name in record if name.count("/") == 2)
        tasks = names_of(self.config.eval.tasks)
        return {task: [name for name in known if name.startswith(f"valid/{task}/")] for task in tasks}

    def values(self, name: str) -> list[float]:
        return [value for _, value in self.points(name)]

    def at_first(self, name: str) -> float | None:
        """The mean of the first tenth of its finite values, at least one; None where there is none."""
        values = self.values(name)
        return _mean(values[: _few(values)])

    def at_end(self, name: str) -> float | None:
        """The mean of the last tenth of its finite values, at least one; None where there is none."""
        values = self.values(name)
        return _mean(values[-_few(values) :])


def _few(values: list[float]) -> int:
    return max(1, round(TENTH * len(values)))


def _mean(values: list[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


def _starts(path: Path) -> list[dict[str, Any]]:
    starts = read_json(path, missing={}, fields={"starts": list[dict]}).get("starts", [])
    for start in starts:
        if wrong := fields_that_differ(start, _START):
            raise damaged(path, wrong)
    return starts
