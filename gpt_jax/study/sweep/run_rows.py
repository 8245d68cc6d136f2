"""The runs of a sweep as rows of plain values: what they cost and what they reached."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gpt_jax import configs
from gpt_jax.config import Config
from gpt_jax.run_directory import CONFIG
from gpt_jax.study.sweep.results import SweepResults
from gpt_jax.train.record.metrics import read_summary

LOSS = "valid/loss"  # nats a token
COSTS = ("tokens", "flops", "steps", "seconds", "training_seconds")


def rows(results: SweepResults) -> list[dict[str, Any]]:
    """A row a run, None for what is not known.

    ``params`` counts all parameters, ``flops`` those of training, ``seconds`` the whole run and ``training_seconds`` its
    steps alone. ``loss`` is the validation loss; a sweep with another metric has a column of that name too.
    """
    found = []
    for id, entry in results.runs.items():
        directory = results.directory(id)
        summary = read_summary(directory)
        final = summary.get("final", {})
        metrics = {"loss": final.get(LOSS), results.metric: final.get(results.metric)}
        found.append(
            {
                "name": entry.name,
                "arm": " = ".join(entry.arms),
                "seed": entry.seed,
                "status": results.status(id),
                "params": _params(directory, summary),
                **{name: value for name, value in metrics.items() if name != LOSS},
                **{cost: summary.get(cost) for cost in COSTS},
                "run": id,
            }
        )
    return found


def to_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """CSV of rows with equal keys: floats with all digits, empty where a value is missing."""
    text = io.StringIO()
    if rows:
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return text.getvalue()


def _params(directory: Path, summary: dict[str, Any]) -> int | None:
    """From the summary, or counted where it was written before it had the field."""
    if "params" in summary or not (directory / CONFIG).exists():
        return summary.get("params")
    config = Config.from_dict(configs.of_run(directory))
    if not config.model.vocab:
        return None
    from gpt_jax.model import flops

    return flops.parameters(config.model).total
