"""A scaling law of finished runs: coefficients with intervals, compute-optimal splits, and checks of the fit."""

import dataclasses
import functools
import math

import numpy as np

from gpt_jax import registry
from gpt_jax.errors import UserError
from gpt_jax.study.compare.statistics import Interval
from gpt_jax.study.scaling import compute_optimal, isoflop, repeats
from gpt_jax.study.scaling import fit as fitting
from gpt_jax.study.scaling.laws import Law
from gpt_jax.study.scaling.table import RunTable

LEVEL = 0.95
RESAMPLES = 1000
HELD_OUT = 0.25  # of the runs, those with the most FLOPs
DECADES = range(-2, 3)  # of FLOPs in the table of splits, relative to the largest run
FLOAT_MAX = np.finfo(float).max


@dataclasses.dataclass(frozen=True)
class Estimate:
    value: float
    interval: Interval

    def __str__(self) -> str:
        return f"{self.value:.4g} [{self.interval.low:.4g}, {self.interval.high:.4g}]"


@dataclasses.dataclass(frozen=True)
class ComputeSplit:
    """The compute-optimal split of ``flops`` by the law. ``beyond``: factor beyond the largest run, 1 within."""

    flops: float
    params: Estimate
    tokens: Estimate
    loss: Estimate
    beyond: float


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """Relative errors of the law fitted to the runs with fewer FLOPs, on the held-out runs with the most."""

    fitted: int
    predicted: int
    mean_error: float
    mean_size: float


@dataclasses.dataclass(frozen=True)
class ScalingAnalysis:
    """What ``analyse`` returns.

    Args:
      exponent: a of params ~ FLOPs^a, at the greatest number of FLOPs trained; None where the law has no such split.
      without_law: the exponents of Hoffmann's approaches 1 and 2, or why there is none.
      lack_of_fit: whether the law fits, by runs that differ in their seed alone; None where there are none.
      degenerate: the coefficients that the runs do not determine, in words; empty for a fit that can be used.
    """

    points: RunTable
    fit: fitting.Fit
    samples: np.ndarray
    coefficients: dict[str, Estimate]
    exponent: Estimate | None
    splits: tuple[ComputeSplit, ...]
    held_out: HeldOut | None
    without_law: dict[str, isoflop.PowerLaw | str]
    lack_of_fit: repeats.LackOfFit | None
    degenerate: tuple[str, ...]


# A degenerate fit overflows; the analysis names it.
overflows_ignored = functools.partial(np.errstate, over="ignore", invalid="ignore", divide="ignore")


@overflows_ignored()
def analyse(runs: RunTable, law: str = "chinchilla", *, seed: int = 0, resamples: int = RESAMPLES) -> ScalingAnalysis:
    """Fits ``law``, a name or call of kind "study.scaling.laws", and derives compute-optimal splits from it.

    Raises:
      UserError: as ``fit.fit``.
    """
    form = registry.build("study.scaling.laws", law)
    found = fitting.fit(form, runs, seed=seed)
    samples = fitting.bootstrap(found, runs, resamples, seed=seed)
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
        {name: _or_reason(approach, runs) for name, approach in without.items()},
        repeats.lack_of_fit(found, runs),
        tuple(_at_bounds(form, found.coefficients, float(runs["loss"].min()))),
    )


def _at_bounds(law: Law, coefficients: dict[str, float], lowest_loss: float) -> list[str]:
    """The coefficients outside their credible range."""
    texts = []
    for name, (low, high) in law.limits(lowest_loss).items():
        value = coefficients[name]
        if not low <= value <= high:
            texts.append(f"{name} = {value:.4g} is beyond its bound of {high if value > high else low:.3g}")
    return texts


def _estimate(value: float, drawn: np.ndarray) -> Estimate:
    if np.isnan(drawn).all():
        return Estimate(float(value), Interval(math.nan, math.nan, LEVEL))
    low, high = np.nanpercentile(np.clip(drawn, -FLOAT_MAX, FLOAT_MAX), [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
    return Estimate(float(value), Interval(float(low), float(high), LEVEL))


def _split(law, theta: np.ndarray, flops: float, top: float) -> ComputeSplit | None:
    found = compute_optimal.optimum(law, theta, flops)
    if not np.isfinite(found[0][0]):
        return None
    params, tokens, loss = (_estimate(column[0], column[1:]) for column in found)
    return ComputeSplit(flops, params, tokens, loss, max(flops / top, 1.0))


def _held_out(law, runs: RunTable, seed: int) -> HeldOut | None:
    """None where too few runs remain to fit."""
    order = np.argsort(runs["flops"], kind="stable")
    kept = len(runs) - max(1, round(HELD_OUT * len(runs)))
    fitted, held_out = runs.take(order[:kept]), runs.take(order[kept:])
    try:
        predicted = fitting.fit(law, fitted, seed=seed).predict(held_out)
    except UserError:
        return None
    errors = predicted / held_out["loss"] - 1
    return HeldOut(len(fitted), len(held_out), float(errors.mean()), float(np.abs(errors).mean()))


def _or_reason(approach, runs: RunTable) -> isoflop.PowerLaw | str:
    try:
        return approach(runs)
    except UserError as refusal:
        return refusal.what
