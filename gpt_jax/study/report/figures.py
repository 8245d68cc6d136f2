"""The figures of a report."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from gpt_jax.plotting import BLUE, COLOURS, GREEN, GREY, VERMILION, panels
from gpt_jax.study.compare.statistics import BETTER, EQUIVALENT, WORSE, Comparison
from gpt_jax.study.report.curves import Curve

# Tell arms apart where there are more than colours.
DASHES = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)))
MAX_LABELS = 16
VERDICTS = {BETTER: BLUE, WORSE: VERMILION, EQUIVALENT: GREEN}
AXES = {"steps": "steps", "tokens": "tokens", "flops": "training FLOPs", "seconds": "seconds"}


def forest(rows: Sequence[Comparison], metric: str, margin: float, lower_is_better: bool = True) -> Any:
    """Forest plot: differences from the baseline with their intervals, the best on top."""
    rows = sorted(rows, key=lambda row: row.mean, reverse=lower_is_better)
    figure, axis = panels(8, 1.1 + 0.34 * len(rows))
    for y, row in enumerate(rows):
        colour = VERDICTS.get(row.verdict, GREY)
        axis.plot(row.differences, [y] * len(row.differences), "|", color=colour, markersize=9, alpha=0.55)
        if row.interval:
            axis.plot([row.interval.low, row.interval.high], [y] * 2, color=colour, linewidth=2)
        axis.plot(row.mean, y, "o", color=colour, markersize=6)
    axis.axvline(0, color=GREY, linewidth=0.8)
    if margin:
        axis.axvspan(-margin, margin, color=GREEN, alpha=0.08, linewidth=0)
    axis.set_yticks(range(len(rows)), [row.arm for row in rows])
    axis.set_ylim(-0.6, len(rows) - 0.4)
    axis.set_xlabel(f"{metric}, difference from {rows[0].baseline} (95% interval; ticks: seeds)")
    return figure


def losses(found: dict[str, Curve], name: str, lower_is_better: bool = True) -> Any:
    """Mean and range of the seeds against steps, tokens, FLOPs and seconds; of many arms, only the best are labelled."""
    figure, grid = panels(11, 6.4, 2, 2)
    best = sorted(found, key=lambda arm: found[arm].mean[-1], reverse=not lower_is_better)[:MAX_LABELS]
    named = [arm for arm in found if arm in best]
    for axis, column in zip(grid.flat, AXES, strict=True):
        for arm, curve in found.items():
            if arm not in named:
                axis.plot(getattr(curve, column), curve.mean, color="#C9CFD4", linewidth=0.6, zorder=1)
                continue
            i = named.index(arm)
            colour, dash = COLOURS[i % len(COLOURS)], DASHES[i // len(COLOURS) % len(DASHES)]
            at = getattr(curve, column)
            if not np.isfinite(at).all():
                continue
            marker = "o" if len(at) == 1 else ""  # a line of one point is invisible
            axis.plot(at, curve.mean, color=colour, linestyle=dash, linewidth=1.4, marker=marker, label=arm)
            axis.fill_between(at, curve.low, curve.high, color=colour, alpha=0.15, linewidth=0)
        axis.set_xlabel(AXES[column])
    for axis in grid[:, 0]:
        axis.set_ylabel(name)
    values = np.concatenate([curve.mean for curve in found.values()])
    low, high = values.min(), np.quantile(values, 0.98)
    margin = 0.05 * (high - low) or 1e-3
    grid[0, 0].set_ylim(low - margin, high + margin)
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    return figure
