"""A scaling law of finished runs: coefficients with intervals, how to spend compute, and how far it can be believed."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from gpt_jax import registry
from gpt_jax.errors import UserError
from gpt_jax.study import fit as fitting
from gpt_jax.study import isoflop, optimum, points
from gpt_jax.study.points import Points
from gpt_jax.study.statistics import Interval
from gpt_jax.train.metrics import write_json

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
class Split:
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
class Study:
    """All that ``study`` found.

    Args:
      exponent: a of params ~ FLOPs^a, at the greatest number of FLOPs trained; None where the law has no such split.
      without_law: the exponents of Hoffmann's approaches 1 and 2, or why there is none.
    """

    points: Points
    fit: fitting.Fit
    samples: np.ndarray
    coefficients: dict[str, Estimate]
    exponent: Estimate | None
    splits: tuple[Split, ...]
    held_out: HeldOut | None
    without_law: dict[str, isoflop.PowerLaw | str]


def study(
    runs: Points, law: str = "chinchilla", *, seed: int = 0, resamples: int = RESAMPLES, progress: bool = False
) -> Study:
    """Fits ``law``, a name or call of kind "study.law", and everything that follows from it.

    Raises:
      UserError: as ``fit.fit``.
    """
    form = registry.build("study.law", law)
    found = fitting.fit(form, runs, seed=seed)
    samples = fitting.bootstrap(found, runs, resamples, seed=seed, progress=progress)
    values, drawn = form.report(found.theta[None])[0], form.report(samples)
    coefficients = {name: _estimate(values[i], drawn[:, i]) for i, name in enumerate(form.coefficients)}
    splits: tuple[Split, ...] = ()
    exponent = None
    if set(form.columns) == {"params", "tokens"}:
        top = float(runs["flops"].max())
        both = np.concatenate([found.theta[None], samples])
        slopes = optimum.exponent(form, both, top)
        if np.isfinite(slopes[0]):
            exponent = _estimate(slopes[0], slopes[1:])
        splits = tuple(split for k in DECADES if (split := _split(form, both, top * 10.0**k, top)) is not None)
    without = {"envelope": isoflop.envelope, "isoFLOP parabolas": isoflop.parabolas}
    return Study(
        runs,
        found,
        samples,
        coefficients,
        exponent,
        splits,
        _held_out(form, runs, seed),
        {name: _or_why_not(approach, runs) for name, approach in without.items()},
    )


def fit_file(runs: Path, law: str, out: str, *, seed: int, resamples: int) -> Study:
    """Fits a law to a table of runs, prints what is found, and writes fit.json and fit.png into ``out`` if it is named."""
    found = study(points.read(runs), law, seed=seed, resamples=resamples, progress=True)
    print(tell(found))
    if out:
        from gpt_jax.study import scaling_figure

        directory = Path(out)
        directory.mkdir(parents=True, exist_ok=True)
        write_json(directory / "fit.json", to_json(found))
        scaling_figure.figure(found).savefig(directory / "fit.png", dpi=140)
        print(f"\nwrote {directory / 'fit.json'} and {directory / 'fit.png'}")
    return found


def tell(found: Study) -> str:
    """The findings as text."""
    law, runs = found.fit.law, found.points
    best = found.fit.optima[0]
    lines = [
        f"loss = {law.formula}, fitted to {len(runs)} runs of {runs['flops'].min():.2g} to "
        f"{runs['flops'].max():.2g} FLOPs",
        "",
        *(f"  {name:<9} {estimate}" for name, estimate in found.coefficients.items()),
        "",
        f"{best.starts} of {sum(o.starts for o in found.fit.optima)} starts ended at this optimum"
        + (
            f"; the next is {found.fit.optima[1].objective / best.objective - 1:.1%} worse"
            if found.fit.optima[1:]
            else ""
        ),
        *(_flat(found, vector) for vector in found.fit.flat),
    ]
    if found.held_out:
        h = found.held_out
        lines.append(
            f"fitted to the {h.fitted} cheapest runs it predicts the other {h.predicted} with errors of "
            f"{h.mean_size:.2%}, {h.mean_error:+.2%} on average"
        )
    lines += [*(f"left out: {row}" for row in runs.excluded), ""]
    lines += ["optimal params grow as FLOPs to the power of"]
    if found.exponent:
        lines.append(f"  {found.exponent} by this law")
    for name, result in found.without_law.items():
        told = result if isinstance(result, str) else f"{result.exponent:.4g}"
        lines.append(f"  {told} by the {name}" if not isinstance(result, str) else f"  – by the {name}: {told}")
    if found.splits:
        lines += ["", f"{'FLOPs':>9}  {'params':<32} {'tokens':<32} loss"]
        lines += [
            f"{s.flops:>9.2e}  {str(s.params):<32} {str(s.tokens):<32} {s.loss}"
            + (f"   {s.beyond:.0f}x beyond what was trained" if s.beyond > 1.01 else "")
            for s in found.splits
        ]
    return "\n".join(lines)


def to_json(found: Study) -> dict[str, Any]:
    return {
        "law": found.fit.law.formula,
        "points": len(found.points),
        "excluded": list(found.points.excluded),
        "coefficients": {name: dataclasses.asdict(e) for name, e in found.coefficients.items()},
        "optima": [
            {
                "objective": o.objective,
                "starts": o.starts,
                "coefficients": found.fit.law.report(o.theta[None])[0].tolist(),
            }
            for o in found.fit.optima[:10]
        ],
        "exponent": dataclasses.asdict(found.exponent) if found.exponent else None,
        "splits": [dataclasses.asdict(split) for split in found.splits],
        "held_out": dataclasses.asdict(found.held_out) if found.held_out else None,
        "without_law": {
            name: result if isinstance(result, str) else result.exponent for name, result in found.without_law.items()
        },
    }


def _estimate(value: float, drawn: np.ndarray) -> Estimate:
    low, high = np.nanpercentile(drawn, [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
    return Estimate(float(value), Interval(float(low), float(high), LEVEL))


def _split(law, theta: np.ndarray, flops: float, top: float) -> Split | None:
    found = optimum.optimum(law, theta, flops)
    if not np.isfinite(found[0][0]):
        return None
    params, tokens, loss = (_estimate(column[0], column[1:]) for column in found)
    return Split(flops, params, tokens, loss, max(flops / top, 1.0))


def _held_out(law, runs: Points, seed: int) -> HeldOut | None:
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


def _or_why_not(approach, runs: Points) -> isoflop.PowerLaw | str:
    try:
        return approach(runs)
    except UserError as refusal:
        return refusal.what


def _flat(found: Study, vector: np.ndarray) -> str:
    """A direction that the points do not tell, by the change of the coefficients along it."""
    law, theta = found.fit.law, found.fit.theta
    moved = law.report(np.stack([theta, theta + 1e-3 * vector]))
    change = (moved[1] - moved[0]) / np.abs(moved[0])
    told = ", ".join(
        f"{name} {relative / np.abs(change).max():+.0%}"
        for name, relative in zip(law.coefficients, change, strict=True)
        if abs(relative) > 0.02 * np.abs(change).max()
    )
    return f"the points hardly tell a change of all together in these proportions: {told}"
