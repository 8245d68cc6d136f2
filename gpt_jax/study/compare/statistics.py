"""Paired comparison of arms: differences of runs with the same seed, their intervals, and a verdict.

Two runs of one seed see the same batches and, where shapes allow, start from the same parameters. Much of the noise is
common to both and cancels in the difference. All inference is on these differences; SciPy computes the tests.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np
import scipy

from gpt_jax.errors import UserError
from gpt_jax.study.compare import power

ALPHA = 0.05
RESAMPLES = 9999
MIN_FOR_BOOTSTRAP = 12  # normal differences: a 95% interval covers 85% of the time at 5 of them, 93% from 12 on
FEW = 2  # as many equal differences say nothing of the noise: a share of 200 answers is often the same twice by chance
BETTER, WORSE, EQUIVALENT, INCONCLUSIVE = "better", "worse", "equivalent", "inconclusive"

Values = Mapping[str, Mapping[int, float]]  # arm -> seed -> value


@dataclasses.dataclass(frozen=True)
class Interval:
    """A confidence interval, at a level such as 0.95."""

    low: float
    high: float
    level: float

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


@dataclasses.dataclass(frozen=True)
class Comparison:
    """An arm compared with the baseline: the differences arm - baseline over the seeds that both have.

    Args:
      seeds, differences: the pairs; ``excluded`` seeds lack a finite value in one of the two.
      mean, deviation: of the differences; the deviation is the sample's, nan for one pair.
      interval: Student's t, at level 1 - alpha; None for one pair.
      bootstrap: bias-corrected and accelerated (Efron 1987), from 12 pairs on.
      p, p_adjusted: of the two-sided paired t-test; and adjusted by Holm (1979) for all arms of the table.
      p_sign: of the sign test, which assumes no distribution.
      effect: mean / deviation, Cohen's d of paired differences.
      detectable: the smallest true difference found with 80% power at this number of seeds.
      seeds_needed: seeds for 80% power, if the true difference is the mean; None beyond 1000.
      verdict: better, worse, equivalent or inconclusive; ``words`` says it in a sentence.
    """

    arm: str
    baseline: str
    seeds: tuple[int, ...]
    excluded: tuple[int, ...]
    differences: tuple[float, ...]
    mean: float
    deviation: float
    interval: Interval | None
    bootstrap: Interval | None
    p: float
    p_adjusted: float
    p_sign: float
    effect: float
    detectable: float
    seeds_needed: int | None
    verdict: str
    words: str


def compare(
    values: Values,
    baseline: str,
    *,
    alpha: float | Mapping[str, float] = ALPHA,
    margin: float = 0.0,
    lower_is_better: bool = True,
) -> list[Comparison]:
    """Compares every other arm with ``baseline``.

    Args:
      alpha: the family-wise error rate of the table; or that of each arm, in a group-sequential design, where intervals
        stay 95% ones.
      margin: the equivalence margin: an arm is equivalent where its (1 - 2 alpha / arms) interval lies within it (two
        one-sided tests, Schuirmann 1987, for so many arms). 0 = every difference matters.

    Raises:
      UserError: the baseline is not among the arms, or an arm shares no seed with it.
    """
    if baseline not in values:
        raise UserError(f"there is no arm {baseline!r} to compare with", allowed=", ".join(values))
    arms = [arm for arm in values if arm != baseline]
    pairs = {arm: _paired(arm, values[arm], baseline, values[baseline]) for arm in arms}
    p_values = {arm: p_paired(pairs[arm][1]) for arm in arms}
    adjusted = dict(zip(arms, holm([p_values[arm] for arm in arms]), strict=True))
    found = []
    level = 1 - (alpha if isinstance(alpha, float) else ALPHA)
    for arm in arms:
        own = alpha if isinstance(alpha, float) else alpha[arm]
        seeds, differences, excluded = pairs[arm]
        n, mean = len(differences), float(np.mean(differences))
        deviation = float(np.std(differences, ddof=1)) if n > 1 else math.nan
        verdict = judge(differences, adjusted[arm], own, own / len(arms), margin, lower_is_better)
        found.append(
            Comparison(
                arm,
                baseline,
                seeds,
                excluded,
                differences,
                mean,
                deviation,
                interval=t_interval(differences, level),
                bootstrap=bootstrap_interval(differences, level),
                p=p_values[arm],
                p_adjusted=adjusted[arm],
                p_sign=p_sign(differences),
                effect=mean / deviation if n > 1 and deviation else math.nan,
                detectable=power.detectable(n, deviation, own / len(arms)),
                seeds_needed=power.seeds_needed(mean, deviation, own / len(arms)),
                verdict=verdict,
                words=_words(verdict, arm, baseline, mean, t_interval(differences, level), margin, n),
            )
        )
    return found


def comparable(values: Values, baseline: str) -> dict[str, Mapping[int, float]]:
    """The baseline, and the arms with a finite value at a seed at which it has one; empty where it has none."""
    finite = {arm: {seed for seed, value in row.items() if math.isfinite(value)} for arm, row in values.items()}
    return {arm: row for arm, row in values.items() if finite[arm] & finite[baseline]}


def judge(
    differences: Sequence[float], p: float, alpha: float, equivalence: float, margin: float, lower_is_better: bool
) -> str:
    """The verdict: equivalent if the interval at level 1 - 2 ``equivalence`` is within the margin, else better or worse if p
    is below ``alpha``, or inconclusive."""
    inner = t_interval(differences, 1 - 2 * equivalence)
    if inner is None:
        return INCONCLUSIVE
    if not any(differences) or (margin > 0 and -margin < inner.low and inner.high < margin):
        return EQUIVALENT
    if p < alpha:
        return BETTER if (np.mean(differences) < 0) == lower_is_better else WORSE
    return INCONCLUSIVE


def t_interval(differences: Sequence[float], level: float) -> Interval | None:
    """Student's t interval of the mean; None for a single value."""
    n = len(differences)
    if n < 2:
        return None
    mean, error = np.mean(differences), scipy.stats.sem(differences)
    reach = scipy.stats.t.ppf((1 + level) / 2, n - 1) * error
    return Interval(float(mean - reach), float(mean + reach), level)


def bootstrap_interval(differences: Sequence[float], level: float) -> Interval | None:
    if len(differences) < MIN_FOR_BOOTSTRAP or np.ptp(differences) == 0:
        return None
    found = scipy.stats.bootstrap(
        (np.asarray(differences),), np.mean, confidence_level=level, n_resamples=RESAMPLES, method="BCa", rng=0
    ).confidence_interval
    return Interval(float(found.low), float(found.high), level)


def p_paired(differences: Sequence[float]) -> float:
    """p of the t-test that the mean is 0; 1 for a single value or where all are 0."""
    if len(differences) < 2 or not any(differences):
        return 1.0
    if np.ptp(differences) == 0:
        return 0.0 if len(differences) > FEW else p_sign(differences)
    return float(scipy.stats.ttest_1samp(differences, 0.0).pvalue)


def p_sign(differences: Sequence[float]) -> float:
    """p of the sign test: are differences above 0 as often as below?"""
    signs = [difference > 0 for difference in differences if difference]
    return float(scipy.stats.binomtest(sum(signs), len(signs)).pvalue) if signs else 1.0


def holm(p: Sequence[float]) -> list[float]:
    """p-values adjusted for multiple comparisons (Holm 1979)."""
    order = np.argsort(p, kind="stable")
    raised = np.asarray(p)[order] * (len(p) - np.arange(len(p)))
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(np.maximum.accumulate(raised), 1)
    return adjusted.tolist()


def _paired(arm: str, ours: Mapping[int, float], baseline: str, theirs: Mapping[int, float]):
    """Seeds with a finite value in both, their differences, and the other seeds."""
    both = sorted(seed for seed in ours if seed in theirs and math.isfinite(ours[seed]) and math.isfinite(theirs[seed]))
    if not both:
        raise UserError(
            f"{arm} and {baseline} have no seed in common with a finite value in both",
            where=f"seeds {sorted(ours)} and {sorted(theirs)}",
            fix="run both with the same seeds",
        )
    excluded = sorted((set(ours) | set(theirs)) - set(both))
    return tuple(both), tuple(ours[seed] - theirs[seed] for seed in both), tuple(excluded)


def _words(verdict: str, arm: str, baseline: str, mean: float, interval: Interval | None, margin: float, n: int) -> str:
    if interval is None:
        return f"{arm} against {baseline}: {mean:+.4g} for one seed, which does not show the noise"
    size = f"{mean:+.4g} [{interval.low:+.4g}, {interval.high:+.4g}] over {n} seeds"
    if verdict == EQUIVALENT:
        within = f" within {margin:g}" if margin else ": the runs are identical"
        return f"{arm} is equivalent to {baseline}{within}: {size}" if margin else f"{arm} equals {baseline}{within}"
    if verdict == INCONCLUSIVE:
        return f"{arm} against {baseline} is inconclusive: {size}"
    return f"{arm} is {verdict} than {baseline}: {size}"
