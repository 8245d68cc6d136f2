"""Power of paired comparisons, and alpha spending for group-sequential looks."""

import bisect
import functools
import math
from collections.abc import Callable, Sequence

import numpy as np
import scipy

POWER = 0.8
MAX_SEEDS = 1000
QUANTILES = 4000


def power(n: int, effect: float, alpha: float) -> float:
    """Power of a two-sided paired t-test of n differences whose true mean is ``effect`` standard deviations.

    The noncentral t distribution, as the mean of normal ones over the possible sample deviations: SciPy's own loses its
    digits at few degrees of freedom.
    """
    if n < 2:
        return 0.0
    critical, shift = reach(n, alpha), abs(effect) * math.sqrt(n)
    return float(np.mean(scipy.special.ndtr(shift - critical) + scipy.special.ndtr(-shift - critical)))


def reach(n: int, alpha: float) -> np.ndarray:
    """How far from an end the mean of n values has to be for a two-sided t-test to reject it, in true standard errors: one
    distance for each of the possible sample deviations, which are equally likely."""
    return scipy.stats.t.ppf(1 - alpha / 2, n - 1) * _deviations(n)


def detectable(n: int, deviation: float, alpha: float, wanted: float = POWER) -> float:
    """The smallest true difference found with power ``wanted``, in the units of ``deviation``; infinite for n = 1."""
    return deviation * _effect(n, alpha, wanted) if n > 1 else math.inf


@functools.cache
def _effect(n: int, alpha: float, wanted: float) -> float:
    top = 1.0
    while power(n, top, alpha) < wanted:
        top *= 2
    return float(scipy.optimize.brentq(lambda effect: power(n, effect, alpha) - wanted, 0.0, top))


@functools.cache
def _deviations(n: int) -> np.ndarray:
    """Equally likely sample deviations of n standard normal values."""
    levels = (np.arange(QUANTILES) + 0.5) / QUANTILES
    return np.sqrt(scipy.stats.chi2.ppf(levels, n - 1) / (n - 1))


def seeds_needed(difference: float, deviation: float, alpha: float, wanted: float = POWER) -> int | None:
    """Seeds for power ``wanted`` at a true ``difference``; None for more than 1000, or an unknown deviation."""
    if not difference or not math.isfinite(deviation):
        return None
    if not deviation:
        return 2
    return least(lambda n: power(n, difference / deviation, alpha), wanted)


def least(chance: Callable[[int], float], wanted: float = POWER) -> int | None:
    """The smallest number of values, from 2 on, with a chance of ``wanted``, which rises with it; None beyond 1000."""
    numbers = range(2, MAX_SEEDS + 1)
    found = bisect.bisect_left(numbers, wanted, key=chance)
    return numbers[found] if found < len(numbers) else None


def spending(looks: Sequence[int], alpha: float) -> list[float]:
    """The significance level of each group-sequential look, after so many seeds, so that all together keep ``alpha``.

    The O'Brien-Fleming spending function (Lan & DeMets 1983): little alpha early, most at the end. Each look is tested at
    the newly spent share, which is valid for any dependence between looks by the union bound.
    """
    fraction = np.asarray(looks, float) / looks[-1]
    spent = 2 * scipy.stats.norm.sf(scipy.stats.norm.isf(alpha / 2) / np.sqrt(fraction))
    return np.diff(spent, prepend=0.0).tolist()
