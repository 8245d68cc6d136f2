"""Percentile bootstrap over problems (Efron 1979): intervals of figures, and of their differences between two models."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import scipy

RESAMPLES = 1000
LEVEL = 0.95
AT_ONCE = 1 << 22  # weights that exist at once: bounds memory

Figures = Callable[[np.ndarray], dict[str, float]]


@dataclass(frozen=True)
class Figure:
    """A number with its 95% interval; ``problems``: how many it is of."""

    value: float
    low: float
    high: float
    problems: int

    def __str__(self) -> str:
        return f"{self.value:.4g} [{self.low:.4g}, {self.high:.4g}]"


def intervals(figures: Figures, statistics_NK: np.ndarray, seed: int = 0) -> dict[str, Figure]:
    """Of one model.

    Args:
      figures: of the sum [K] over problems (``metrics.Metric``).
    """
    resampled = [figures(total_K) for total_K in _totals(statistics_NK, seed)]
    return _described(figures(statistics_NK.sum(0)), resampled, len(statistics_NK))


def shares(values: Mapping[str, np.ndarray]) -> dict[str, Figure]:
    """The means of those that are zeros and ones, [N], with Wilson's interval (1927). Resamples are too much alike where few
    problems are of one of the two kinds: all of them, where there are none."""
    found = {}
    for name, value_N in values.items():
        if np.isin(value_N, (0, 1)).all():
            test = scipy.stats.binomtest(int(value_N.sum()), len(value_N))
            interval = test.proportion_ci(LEVEL, method="wilson")
            found[name] = Figure(float(value_N.mean()), float(interval.low), float(interval.high), len(value_N))
    return found


def differences(figures: Figures, one_NK: np.ndarray, other_NK: np.ndarray, seed: int = 0) -> dict[str, Figure]:
    """Of two models on the same problems, one - other: both are resampled alike, so that what makes a problem easy for both
    cancels."""
    assert one_NK.shape == other_NK.shape
    pairs = zip(_totals(one_NK, seed), _totals(other_NK, seed), strict=True)
    resampled = [_minus(figures(one_K), figures(other_K)) for one_K, other_K in pairs]
    return _described(_minus(figures(one_NK.sum(0)), figures(other_NK.sum(0))), resampled, len(one_NK))


def _minus(one: dict[str, float], other: dict[str, float]) -> dict[str, float]:
    return {name: value - other[name] for name, value in one.items()}


def _described(values: dict[str, float], resampled: list[dict[str, float]], problems: int) -> dict[str, Figure]:
    tails = (50 * (1 - LEVEL), 50 * (1 + LEVEL))
    found = {}
    for name, value in values.items():
        low, high = np.nanpercentile([one[name] for one in resampled], tails)
        found[name] = Figure(float(value), float(low), float(high), problems)
    return found


def _totals(statistics_NK: np.ndarray, seed: int) -> np.ndarray:
    """Sums over resamples of the problems, [RESAMPLES, K]."""
    numbers, count = np.random.default_rng(seed), len(statistics_NK)
    rows = max(1, AT_ONCE // count)
    parts = [min(rows, RESAMPLES - first) for first in range(0, RESAMPLES, rows)]
    even = np.full(count, 1 / count)
    return np.concatenate([numbers.multinomial(count, even, size=part) @ statistics_NK for part in parts])
