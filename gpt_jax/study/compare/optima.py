"""The optimum of the loss along one knob, such as the logarithm of the learning rate, and its figure."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gpt_jax.plotting import COLOURS, panels

NEIGHBOURS = 2  # points on either side of the lowest that the parabola is fitted to
Curve = Mapping[float, Sequence[float]]  # value of the knob -> losses, one a seed


def parabola_minimum(at: Sequence[float], losses: Sequence[float]) -> float:
    """The minimum of a parabola fitted to the points around the lowest one.

    nan where the lowest loss is at an end of the tried range, or the parabola opens downwards: then the optimum is not
    known. Losses that are not finite are left out.
    """
    x, y = (np.asarray(values, float) for values in (at, losses))
    order = [i for i in np.argsort(x) if math.isfinite(y[i])]
    x, y = x[order], y[order]
    best = int(np.argmin(y)) if len(y) else 0
    if not 0 < best < len(y) - 1:
        return math.nan
    near = slice(max(best - NEIGHBOURS, 0), best + NEIGHBOURS + 1)
    bend, slope, _ = np.polyfit(x[near] - x[best], y[near], 2)
    shift = -slope / (2 * bend) if bend > 0 else math.nan
    return float(x[best] + shift) if x[near][0] <= x[best] + shift <= x[near][-1] else math.nan


def by_seed(curve: Curve) -> list[float]:
    """``parabola_minimum`` of each seed's losses."""
    return [parabola_minimum(list(curve), losses) for losses in zip(*curve.values(), strict=True)]


def draw(groups: Mapping[str, Mapping[str, Curve]], xlabel: str, ylabel: str) -> Any:
    """A panel a group: mean losses with the range of the seeds, and a tick at the optimum of each seed."""
    figure, axes = panels(4.2 * len(groups), 3.8, 1, len(groups))
    for axis, (title, curves) in zip(np.ravel(axes), groups.items(), strict=True):
        for i, (label, curve) in enumerate(curves.items()):
            at = sorted(curve)
            losses = np.array([curve[x] for x in at], float)
            kept = np.isfinite(losses).all(1)
            colour = COLOURS[i % len(COLOURS)]
            axis.plot(
                np.array(at)[kept], losses[kept].mean(1), "o-", color=colour, markersize=3, linewidth=1.4, label=label
            )
            axis.fill_between(
                np.array(at)[kept], losses[kept].min(1), losses[kept].max(1), color=colour, alpha=0.15, linewidth=0
            )
            for found in filter(math.isfinite, by_seed(curve)):
                axis.axvline(found, ymax=0.05, color=colour, linewidth=1.6)
        axis.set(title=title, xlabel=xlabel)
    np.ravel(axes)[0].set_ylabel(ylabel)
    np.ravel(axes)[0].legend(frameon=False, fontsize=9)
    return figure
