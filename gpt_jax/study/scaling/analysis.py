"""A scaling law of finished runs: coefficients with intervals, how to spend compute, and how far it can be believed."""

import dataclasses

import numpy as np

from gpt_jax import registry
from gpt_jax.errors import UserError
from gpt_jax.study.compare.statistics import Interval
from gpt_jax.study.scaling import compute_optimal, isoflop
from gpt_jax.study.scaling import fit as fitting
from gpt_jax.study.scaling.table import RunTable

LEVEL = 0.95
RESAMPLES = 1000
HELD_OUT = 0.25  # of the points, those with the most FLOPs
DECADES = range(-2, 3)  # of FLOPs in the table of splits, from the most that was trained


@dataclasses.dataclass(frozen=True)
class Estimate:
    value: float
    interval: Interval

    def __str__(self) -> str:
        return f"{self.value:.4g} [{self.interval.low:.4g}, {self.interval.high:.4g}]"


@dataclasses.dataclass(frozen=True)
class ComputeSplit:
    """How to spend ``flops`` by the law. ``beyond``: by which factor that is more than any run had; 1 where it is not."""

    flops: float
    params: Estimate
    tokens: Estimate
    loss: Estimate
    beyond: float


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """The law fitted to the cheaper runs, held against the dearer ones: relative errors of their losses."""

    fitted: int
    predicted: int
    mean_error: float
    mean_size: float


@dataclasses.dataclass(frozen=True)
class ScalingAnalysis:
    """All that ``analyse`` found.

    Args:
      exponent: a of params ~ FLOPs^a, at the greatest number of FLOPs trained; None where the law has no such split.
      without_law: the exponents of Hoffmann's approaches 1 and 2, or why there is none.
    """

    points: RunTable
    fit: fitting.Fit
    samples: np.ndarray
    coefficients: dict[str, Estimate]
    exponent: Estimate | None
    splits: tuple[ComputeSplit, ...]
    held_out: HeldOut | None
    without_law: dict[str, isoflop.PowerLaw | str]


def analyse(
    runs: RunTable, law: str = "chinchilla", *, seed: int = 0, resamples: int = RESAMPLES, progress: bool = False
) -> ScalingAnalysis:
    """Fits ``law``, a name or call of kind "study.scaling.laws", and everything that follows from it.

    Raises:
      UserError: as ``fit.fit``.
    """
    form = registry.build("study.scaling.laws", law)
    found = fitting.fit(form, runs, seed=seed)
    samples = fitting.bootstrap(found, runs, resamples, seed=seed, progress=progress)
    values, drawn = form.report(found.theta[None])[0], form.report(samples)
    coefficients = {name: _estimate(values[i], drawn[:, i]) for i, name in enumerate(form.coefficients)}
    splits: tuple[ComputeSplit, ...] = ()
    exponent = None
    if set(form.columns) == {"params", "tokens"}:
        top = float(runs["flops"].max())
        both = np.concatenate([found.theta[None], samples])
        slopes = compute_optimal.exponent(form, both, top)
        if np.isfinite(slopes[0]):
            exponent = _estimate(slopes[0], slopes[1:])
        splits = tuple(split for k in DECADES if (split := _split(form, both, top * 10.0**k, top)) is not None)
    without = {"envelope": isoflop.envelope, "isoFLOP parabolas": isoflop.parabolas}
    return ScalingAnalysis(
        runs,
        found,
        samples,
        coefficients,
        exponent,
        splits,
        _held_out(form, runs, seed),
        {name: _or_why_not(approach, runs) for name, approach in without.items()},
    )


def _estimate(value: float, drawn: np.ndarray) -> Estimate:
    low, high = np.nanpercentile(drawn, [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
    return Estimate(float(value), Interval(float(low), float(high), LEVEL))


def _split(law, theta: np.ndarray, flops: float, top: float) -> ComputeSplit | None:
    found = compute_optimal.optimum(law, theta, flops)
    if not np.isfinite(found[0][0]):
        return None
    params, tokens, loss = (_estimate(column[0], column[1:]) for column in found)
    return ComputeSplit(flops, params, tokens, loss, max(flops / top, 1.0))


def _held_out(law, runs: RunTable, seed: int) -> HeldOut | None:
    """None where too few runs would remain to fit."""
    order = np.argsort(runs["flops"], kind="stable")
    kept = len(runs) - max(1, round(HELD_OUT * len(runs)))
    cheap, dear = runs.take(order[:kept]), runs.take(order[kept:])
    try:
        predicted = fitting.fit(law, cheap, seed=seed).predict(dear)
    except UserError:
        return None
    errors = predicted / dear["loss"] - 1
    return HeldOut(len(cheap), len(dear), float(errors.mean()), float(np.abs(errors).mean()))


def _or_why_not(approach, runs: RunTable) -> isoflop.PowerLaw | str:
    try:
        return approach(runs)
    except UserError as refusal:
        return refusal.what
