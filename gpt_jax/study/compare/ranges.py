"""Whether a mean lies in a range: an interval on a scale, and the p of the test that decides."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import scipy

from gpt_jax.study.compare import power
from gpt_jax.study.compare.scales import scale
from gpt_jax.study.compare.statistics import ALPHA, t_interval

NORMAL = 1.959964  # standard errors from the middle of a 95% interval to its ends


@dataclasses.dataclass(frozen=True)
class Range:
    """Where values of a quantity may lie, and the scale that they are averaged on."""

    least: float = -math.inf
    most: float = math.inf
    scale: str = "plain"

    @property
    def words(self) -> str:
        if math.isfinite(self.least) and math.isfinite(self.most):
            return f"{self.least:.4g} to {self.most:.4g}"
        return f"at most {self.most:.4g}" if math.isfinite(self.most) else f"at least {self.least:.4g}"

    def __contains__(self, value: float) -> bool:
        return self.least <= value <= self.most

    def nearest(self, value: float) -> list[float]:
        """The ends that decide about a value on the scale: within the range all of them, outside the nearer one."""
        ends = self.ends
        return ends if value in self._there or len(ends) < 2 else [min(ends, key=lambda end: abs(value - end))]

    @property
    def ends(self) -> list[float]:
        """Those that are finite, on the scale."""
        return [end for end in self.limits if math.isfinite(end)]

    @property
    def limits(self) -> tuple[float, float]:
        """Both ends on the scale; infinite where there is none."""
        return self._there.least, self._there.most

    @property
    def _there(self) -> "Range":
        on = scale(self.scale)
        return Range(on.bound(self.least), on.bound(self.most))


@dataclasses.dataclass(frozen=True)
class Measured:
    """A mean, its 95% interval, and the p of the two-sided test that the mean is at the end of the range that decides.

    Args:
      mean, low, high: nan where there are too few values.
      missing: values that are not finite; with any, p is 1.
    """

    mean: float = math.nan
    low: float = math.nan
    high: float = math.nan
    missing: int = 0
    p: float = 1.0


def measured(values: Sequence[float], allowed: Range, where: str) -> Measured:
    """Of values of one quantity, one a seed, by Student's t.

    Raises:
      UserError: a value that the scale has no place for.
    """
    on = scale(allowed.scale)
    there = [value for value in on.of(values, where) if math.isfinite(value)]
    missing = len(values) - len(there)
    if not there:
        return Measured(missing=missing)
    interval = t_interval(there, 1 - ALPHA)
    low, high = (float(on.back(interval.low)), float(on.back(interval.high))) if interval else (math.nan, math.nan)
    return Measured(float(on.back(np.mean(there))), low, high, missing, 1.0 if missing else _p(there, allowed))


def estimated(value: float, low: float, high: float, allowed: Range) -> Measured:
    """Of a value whose 95% interval is known: each half of it is taken to be ``NORMAL`` standard errors."""
    if not math.isfinite(low) or not math.isfinite(high) or not allowed.ends:
        return Measured(value, low, high)
    p = []
    for end in allowed.nearest(value):
        half = value - low if end < value else high - value
        p.append(float(2 * scipy.stats.norm.sf(NORMAL * abs(value - end) / half)) if half else float(value == end))
    return Measured(value, low, high, 0, max(p))


def chance(values: Sequence[float], allowed: Range, expected: float, alpha: float, where: str) -> float | None:
    """The probability of a verdict at this number of values and their deviation, if the true mean is ``expected``."""
    on = scale(allowed.scale)
    there = [value for value in on.of(values, where) if math.isfinite(value)]
    if len(there) < 2 or not allowed.ends:
        return None
    (expected,) = on.of([expected], where)
    return _chance(len(there), allowed, expected, float(np.std(there, ddof=1)), alpha)


def needed(values: Sequence[float], allowed: Range, alpha: float, where: str) -> int | None:
    """Values for a verdict with a probability of 80%, if their mean is the true one; None beyond 1000."""
    there = [value for value in scale(allowed.scale).of(values, where) if math.isfinite(value)]
    if len(there) < 2 or not allowed.ends:
        return None
    mean, deviation = float(np.mean(there)), float(np.std(there, ddof=1))
    return power.least(lambda n: _chance(n, allowed, mean, deviation, alpha))


def _chance(n: int, allowed: Range, mean: float, deviation: float, alpha: float) -> float:
    """That the test rejects the ends which decide, if values are normal with this mean and deviation on the scale."""
    if not deviation:
        return float(mean not in allowed.ends)
    reach = power.reach(n, alpha)
    low, high = ((end - mean) * math.sqrt(n) / deviation for end in allowed.limits)
    inside = np.maximum(scipy.special.ndtr(high - reach) - scipy.special.ndtr(low + reach), 0)
    outside = scipy.special.ndtr(low - reach) + scipy.special.ndtr(-high - reach)
    return float(np.mean(inside + outside))


def _p(values: Sequence[float], allowed: Range) -> float:
    if len(values) < 2 or not allowed.ends:
        return 1.0
    mean = float(np.mean(values))
    if np.ptp(values) == 0:
        return float(mean in allowed.ends)
    return max(float(scipy.stats.ttest_1samp(values, end).pvalue) for end in allowed.nearest(mean))
