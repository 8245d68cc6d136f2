"""Compute-optimal sizes without a law: the envelope of training curves, and isoFLOP parabolas (Hoffmann et al. 2022,
approaches 1 and 2)."""

import dataclasses

import numpy as np

from gpt_jax.errors import UserError
from gpt_jax.study.scaling.table import RunTable

SAME_BUDGET = 0.1  # runs whose logarithms of FLOPs differ by less are of one budget
MIN_SIZES, MIN_BUDGETS = 4, 2  # sizes in a budget
ENVELOPE = 1500  # values of FLOPs


@dataclasses.dataclass(frozen=True)
class Minimum:
    """The minimum of the parabola of one budget's losses over the log of the size; ``refused``: why there is none."""

    flops: float
    points: int
    params: float = np.nan
    loss: float = np.nan
    refused: str = ""


@dataclasses.dataclass(frozen=True)
class PowerLaw:
    """params = factor * FLOPs^exponent, through the minima."""

    factor: float
    exponent: float
    minima: tuple[Minimum, ...]


def parabolas(points: RunTable) -> PowerLaw:
    """Approach 2.

    A parabola is refused where it opens downwards or has its minimum outside the trained sizes: neither locates the
    optimum.

    Raises:
      UserError: the runs are not of a few budgets, or fewer than two budgets have an optimum.
    """
    groups = [points.take(group) for group in budgets(points)]
    sized = [group for group in groups if len(np.unique(group["params"])) >= MIN_SIZES]
    if len(points) < MIN_SIZES * len(groups):  # some runs of any table have nearly equal FLOPs by chance
        raise UserError(
            f"the runs are not of a few FLOP budgets with {MIN_SIZES} or more sizes each",
            fix=f"train several sizes at equal FLOPs, to {SAME_BUDGET:.0%}",
        )
    minima = tuple(_minimum(group) for group in sized)
    used = [minimum for minimum in minima if not minimum.refused]
    if len(used) < MIN_BUDGETS:
        raise UserError(
            f"{len(used)} of {len(minima)} FLOP budgets have an optimum, and a power law needs {MIN_BUDGETS}",
            where="; ".join(f"{m.flops:.3g} FLOPs: {m.refused}" for m in minima if m.refused),
            fix=f"train {MIN_SIZES} or more sizes at each budget, on both sides of the optimum",
        )
    return _through(minima)


def envelope(points: RunTable) -> PowerLaw:
    """Approach 1: at each number of FLOPs, the size with the lowest training curve (several rows of equal params).

    Raises:
      UserError: fewer than two sizes have curves, or are best anywhere between the smallest and the largest.
    """
    sizes = np.unique(points["params"])
    log_flops, log_loss = np.log(points["flops"]), np.log(points["loss"])
    curves = {size: np.flatnonzero(points["params"] == size) for size in sizes}
    curves = {size: rows[np.argsort(log_flops[rows])] for size, rows in curves.items() if len(rows) > 1}
    if len(curves) < 2:
        raise UserError(
            f"the envelope needs curves of two sizes or more, and there are {len(curves)}",
            allowed="rows at several numbers of tokens for each params",
        )
    at = np.linspace(log_flops.min(), log_flops.max(), ENVELOPE)
    table = np.stack(
        [np.interp(at, log_flops[rows], log_loss[rows], left=np.inf, right=np.inf) for rows in curves.values()]
    )
    best, covered = table.argmin(0), np.isfinite(table.min(0))
    best_sizes = np.array(list(curves))[best]
    # Where the smallest or the largest size is best, a size beyond it may be better.
    covered &= (best_sizes > min(curves)) & (best_sizes < max(curves))
    if len(np.unique(best_sizes[covered])) < 2:
        raise UserError(
            "fewer than two sizes between the smallest and the largest are best anywhere",
            fix="train more sizes, or more tokens",
        )
    minima = [
        Minimum(float(np.exp(c)), len(curves), float(size), float(np.exp(loss)))
        for c, size, loss in zip(at[covered], best_sizes[covered], table.min(0)[covered], strict=True)
    ]
    return _through(tuple(minima))


def budgets(points: RunTable) -> list[np.ndarray]:
    """Indices of the points of each FLOP budget, from the smallest budget."""
    groups: list[list[int]] = []
    for index in np.argsort(points["flops"], kind="stable"):
        if not groups or np.log(points["flops"][index] / points["flops"][groups[-1][0]]) > SAME_BUDGET:
            groups.append([])
        groups[-1].append(int(index))
    return [np.array(group) for group in groups]


def _minimum(group: RunTable) -> Minimum:
    flops = float(np.exp(np.log(group["flops"]).mean()))
    sizes = np.log(group["params"])
    middle = sizes.mean()
    bend, slope, height = np.polyfit(sizes - middle, group["loss"], 2)
    if bend <= 0:
        return Minimum(flops, len(group), refused="the parabola opens downwards")
    at = middle - slope / (2 * bend)
    if not sizes.min() <= at <= sizes.max():
        return Minimum(flops, len(group), refused=f"the minimum, {np.exp(at):.3g} params, is outside the trained sizes")
    return Minimum(flops, len(group), float(np.exp(at)), float(height - slope**2 / (4 * bend)))


def _through(minima: tuple[Minimum, ...]) -> PowerLaw:
    used = [minimum for minimum in minima if not minimum.refused]
    exponent, offset = np.polyfit(np.log([m.flops for m in used]), np.log([m.params for m in used]), 1)
    return PowerLaw(float(np.exp(offset)), float(exponent), minima)
