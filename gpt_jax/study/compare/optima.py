"""Where along one knob the loss is lowest, such as a learning rate on a log scale, and how that is drawn."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gpt_jax.plotting import COLOURS, panels

AROUND = 2  # points to either side of the lowest that the parabola goes through
Curve = Mapping[float, Sequence[float]]  # where -> losses, one a seed


def parabola_minimum(at: Sequence[float], losses: Sequence[float]) -> float:
    """Where a parabola fitted to the points about the lowest has its lowest point.

    nan where the lowest loss stands at an end of what was tried, or the points about it do not bend upwards: then it is
    not known where the optimum is. Losses that are not finite are left out.
    """
    x, y = (np.asarray(values, float) for values in (at, losses))
    order = [i for i in np.argsort(x) if math.isfinite(y[i])]
    x, y = x[order], y[order]
    best = int(np.argmin(y)) if len(y) else 0
    if not 0 < best < len(y) - 1:
        return math.nan
    near = slice(max(best - AROUND, 0), best + AROUND + 1)
    bend, slope, _ = np.polyfit(x[near] - x[best], y[near], 2)
    shift = -slope / (2 * bend) if bend > 0 else math.nan
    return float(x[best] + shift) if x[near][0] <= x[best] + shift <= x[near][-1] else math.nan


def by_seed(curve: Curve) -> list[float]:
    """``parabola_minimum`` of each seed's losses."""
    return [parabola_minimum(list(curve), losses) for losses in zip(*curve.values(), strict=True)]


def draw(groups: Mapping[str, Mapping[str, Curve]], xlabel: str, ylabel: str) -> Any:
    """A panel a group: mean losses with the extremes of the seeds, and a mark where each curve is lowest."""
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
