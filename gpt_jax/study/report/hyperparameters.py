"""Importance of the knobs of a larger sweep: parallel coordinates of its arms, and the variance explained by each knob."""

import dataclasses
import math
from typing import Any

import numpy as np

from gpt_jax.plotting import BLUE, panels
from gpt_jax.study.sweep.results import SweepResults

MIN_ARMS, MIN_KNOBS = 8, 2
BINS = 4  # equal parts of a knob's values, where every arm has a different one


@dataclasses.dataclass(frozen=True)
class Knob:
    """A knob in which arms differ: ``positions``, 0 to 1 by arm in the order of values, ``labels``, (position, value)."""

    name: str
    positions: np.ndarray
    labels: tuple[tuple[float, str], ...]
    importance: float


@dataclasses.dataclass(frozen=True)
class Table:
    """Arms with a value, the means of the metric over their seeds, and the knobs, the most important first."""

    arms: tuple[str, ...]
    means: np.ndarray
    knobs: tuple[Knob, ...]


def table(results: SweepResults) -> Table | None:
    """None for a sweep with too few arms or knobs."""
    values = {arm: [v for v in row.values() if math.isfinite(v)] for arm, row in results.values().items()}
    arms = tuple(arm for arm, row in values.items() if row)
    means = np.array([np.mean(values[arm]) for arm in arms])
    names = list(dict.fromkeys(knob for arm in arms for knob in results.arms[arm]))
    knobs = [_knob(name, [results.arms[arm].get(name) for arm in arms], means) for name in names]
    found = tuple(sorted((knob for knob in knobs if knob), key=lambda knob: -knob.importance))
    return Table(arms, means, found) if len(arms) >= MIN_ARMS and len(found) >= MIN_KNOBS else None


def importance(groups: list[Any], means: np.ndarray) -> float:
    """The share of the variance of ``means`` between groups (eta squared), corrected for chance (epsilon squared, Kelley
    1935): 0 = none, 1 = all."""
    kinds = {group: means[[i for i, other in enumerate(groups) if other == group]] for group in groups}
    total, free = float(((means - means.mean()) ** 2).sum()), len(means) - len(kinds)
    if total == 0 or free < 1:
        return 0.0
    within = sum(float(((rows - rows.mean()) ** 2).sum()) for rows in kinds.values())
    return max(0.0, 1 - (within / free) / (total / (len(means) - 1)))


def parallel(found: Table, metric: str, lower_is_better: bool = True) -> Any:
    """Parallel coordinates: an axis for each knob and one for the metric; the better an arm, the darker its line."""
    figure, axis = panels(2.2 * (len(found.knobs) + 1), 4.6)
    axis.grid(False)
    low, high = found.means.min(), found.means.max()
    height = (found.means - low) / (high - low or 1.0)
    merit = 1 - height if lower_is_better else height
    for i in np.argsort(merit):
        line = [*(knob.positions[i] for knob in found.knobs), height[i]]
        axis.plot(line, color=BLUE, alpha=0.15 + 0.85 * merit[i] ** 3, linewidth=0.8 + 1.6 * merit[i] ** 3)
    for x, knob in enumerate(found.knobs):
        axis.axvline(x, color="#9AA3A9", linewidth=0.8)
        for position, label in knob.labels:
            axis.text(x + 0.03, position, label, fontsize=8, va="center", bbox=dict(color="white", alpha=0.7, pad=0.5))
    last = len(found.knobs)
    axis.axvline(last, color="#9AA3A9", linewidth=0.8)
    for share in (0, 0.5, 1):
        axis.text(last + 0.03, share, f"{low + share * (high - low):.4g}", fontsize=8, va="center")
    names = [f"{knob.name}\n{knob.importance:.0%} of the variance" for knob in found.knobs]
    axis.set_xticks(range(last + 1), [*names, metric], fontsize=9)
    axis.set_yticks([])
    axis.set_xlim(-0.1, last + 0.35)
    axis.spines[["left", "bottom"]].set_visible(False)
    return figure


def _knob(name: str, given: list[Any], means: np.ndarray) -> Knob | None:
    texts = [
        "as shared" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value) for value in given
    ]
    numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value in given)
    kinds = sorted(set(given)) if numeric else sorted(set(texts))
    if len(kinds) < 2:
        return None
    order = [kinds.index(value) for value in (given if numeric else texts)]
    positions = np.array(order) / (len(kinds) - 1)
    groups = [min(BINS - 1, int(BINS * position)) for position in positions] if len(kinds) == len(given) else order
    step = max(1, math.ceil(len(kinds) / 8))
    labels = tuple((k / (len(kinds) - 1), texts[order.index(k)][:18]) for k in range(0, len(kinds), step))
    return Knob(name.rpartition(".")[2], positions, labels, importance(groups, means))
