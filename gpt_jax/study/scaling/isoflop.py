"""The two ways to compute-optimal sizes that assume no law: the envelope of training curves, and parabolas at equal FLOPs
(Hoffmann et al. 2022, approaches 1 and 2)."""

import dataclasses

import numpy as np

from gpt_jax.errors import UserError
from gpt_jax.study.scaling.table import RunTable

SAME_BUDGET = 0.1  # runs whose logarithms of FLOPs differ by less are of one budget
IN_BUDGETS = (
    0.5  # of the points, at least, must be of budgets with enough sizes: others were not trained at equal FLOPs
)
FEWEST_A_BUDGET, FEWEST_BUDGETS = 4, 2
ENVELOPE = 1500


@dataclasses.dataclass(frozen=True)
class Minimum:
    """The lowest point of the parabola of one budget's losses over the logarithm of the size; ``refused`` says why not."""

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

    A parabola is refused where it opens downwards or has its lowest point outside the sizes that were trained: neither says
    where the optimum is.

    Raises:
      UserError: the runs are not of a few budgets, or fewer than two budgets have an optimum.
    """
    groups = [points.take(group) for group in budgets(points)]
    sized = [group for group in groups if len(np.unique(group["params"])) >= FEWEST_A_BUDGET]
    if len(points) < FEWEST_A_BUDGET * len(groups):  # by chance some of any runs have nearly equal FLOPs
        raise UserError(
            f"the runs are not of a few FLOP budgets with {FEWEST_A_BUDGET} or more sizes each",
            fix=f"train several sizes at equal FLOPs, to {SAME_BUDGET:.0%}",
        )
    minima = tuple(_minimum(group) for group in sized)
    used = [minimum for minimum in minima if not minimum.refused]
    if len(used) < FEWEST_BUDGETS:
        raise UserError(
            f"{len(used)} of {len(minima)} FLOP budgets have an optimum, and a power law needs {FEWEST_BUDGETS}",
            where="; ".join(f"{m.flops:.3g} FLOPs: {m.refused}" for m in minima if m.refused),
            fix=f"train {FEWEST_A_BUDGET} or more sizes at each budget, on both sides of the best",
        )
    return _through(minima)


def envelope(points: RunTable) -> PowerLaw:
    """Approach 1: of the sizes whose curves (several rows of equal params) span a number of FLOPs, the best.

    Raises:
      UserError: fewer than two sizes have curves, or one size is best everywhere.
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
    winners = np.array(list(curves))[best]
    # Where the smallest or the largest size wins, a size beyond it might have won.
    covered &= (winners > min(curves)) & (winners < max(curves))
    if len(np.unique(winners[covered])) < 2:
        raise UserError(
            "fewer than two sizes between the smallest and the largest are best anywhere",
            fix="train more sizes, or more tokens",
        )
    minima = [
        Minimum(float(np.exp(c)), len(curves), float(size), float(np.exp(loss)))
        for c, size, loss in zip(at[covered], winners[covered], table.min(0)[covered], strict=True)
    ]
    return _through(tuple(minima))


def budgets(points: RunTable) -> list[np.ndarray]:
    """Places of the points of each FLOP budget, from the smallest."""
    groups: list[list[int]] = []
    for place in np.argsort(points["flops"], kind="stable"):
        if not groups or np.log(points["flops"][place] / points["flops"][groups[-1][0]]) > SAME_BUDGET:
            groups.append([])
        groups[-1].append(int(place))
    return [np.array(group) for group in groups]


def _minimum(group: RunTable) -> Minimum:
    flops = float(np.exp(np.log(group["flops"]).mean()))
    sizes = np.log(group["params"])
    middle = sizes.mean()
    bend, slope, height = np.polyfit(sizes - middle, group["loss"], 2)
    if bend <= 0:
        return Minimum(flops, len(group), refused="its parabola opens downwards")
    at = middle - slope / (2 * bend)
    if not sizes.min() <= at <= sizes.max():
        return Minimum(
            flops, len(group), refused=f"its lowest point, {np.exp(at):.3g} params, is outside what was trained"
        )
    return Minimum(flops, len(group), float(np.exp(at)), float(height - slope**2 / (4 * bend)))


def _through(minima: tuple[Minimum, ...]) -> PowerLaw:
    used = [minimum for minimum in minima if not minimum.refused]
    exponent, offset = np.polyfit(np.log([m.flops for m in used]), np.log([m.params for m in used]), 1)
    return PowerLaw(float(np.exp(offset)), float(exponent), minima)
