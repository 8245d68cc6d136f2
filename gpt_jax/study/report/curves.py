"""Training curves of a sweep: by arm, the mean over seeds and the range of the seeds."""

import dataclasses
import math

import numpy as np

from gpt_jax.study.sweep.results import SweepResults
from gpt_jax.train.record.metrics import read, read_summary

MIN_EVALUATIONS = 3  # of every run, for curves of the metric; else they are of the training loss


@dataclasses.dataclass(frozen=True)
class Curve:
    """Values at common steps: ``low`` and ``high`` are the lowest and highest seed. The other axes are means over runs."""

    steps: np.ndarray
    tokens: np.ndarray
    flops: np.ndarray
    seconds: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    seeds: int


def curves(results: SweepResults) -> tuple[str, dict[str, Curve]]:
    """The name of the drawn value, and arm -> curve: the metric, or the training loss where runs have few evaluations."""
    records = {
        id: read(results.directory(id)) for id in results.runs if (results.directory(id) / "metrics.jsonl").exists()
    }
    counts = [sum(results.metric in record for record in rows) for rows in records.values()]
    name = results.metric if counts and min(counts) >= MIN_EVALUATIONS else "train/loss"
    found = {}
    for arm in results.arms:
        ids = [id for id, entry in results.runs.items() if arm in entry.arms and records.get(id)]
        if curve := _curve(results, {id: records[id] for id in ids}, name):
            found[arm] = curve
    return name, found


def _curve(results: SweepResults, records: dict[str, list[dict]], name: str) -> Curve | None:
    series = []
    for id, rows in records.items():
        points = {row["step"]: (row["tokens"], row[name]) for row in rows if math.isfinite(row.get(name, math.nan))}
        if points:
            series.append((points, _rates(results, id, rows)))
    if not series:
        return None
    common = sorted(set.intersection(*(set(points) for points, _ in series)))
    if not common:
        return None
    values = np.array([[points[step][1] for step in common] for points, _ in series])
    tokens = np.array([[points[step][0] for step in common] for points, _ in series], float)
    per_token = np.array([rates for _, rates in series])
    return Curve(
        np.array(common),
        tokens.mean(0),
        (tokens * per_token[:, :1]).mean(0),
        (tokens * per_token[:, 1:]).mean(0),
        values.mean(0),
        values.min(0),
        values.max(0),
        len(series),
    )


def _rates(results: SweepResults, id: str, rows: list[dict]) -> tuple[float, float]:
    """FLOPs and training seconds a token; compilation is left out, as one run compiles for others."""
    summary = read_summary(results.directory(id))
    speeds = [row["speed/tokens_per_second"] for row in rows if row.get("speed/tokens_per_second")]
    flops = summary["flops"] / summary["tokens"] if summary.get("tokens") else math.nan
    return flops, 1 / float(np.median(speeds)) if speeds else math.nan
