"""The pictures of a report: drawn once, as SVG for the page and as PNG for slides."""

import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gpt_jax.study.report.curves import Curve
from gpt_jax.study.statistics import BETTER, EQUIVALENT, WORSE, Comparison
from gpt_jax.train.figures import BLUE, GREEN, GREY, VERMILION

# Okabe and Ito's palette, and dashes for more arms than colours.
COLOURS = (BLUE, VERMILION, GREEN, "#CC79A7", "#E69F00", "#56B4E9", GREY)
DASHES = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)))
VERDICTS = {BETTER: BLUE, WORSE: VERMILION, EQUIVALENT: GREEN}
AXES = {"steps": "steps", "tokens": "tokens", "flops": "training FLOPs", "seconds": "seconds"}


def forest(rows: Sequence[Comparison], metric: str, margin: float) -> Any:
    """Differences from the baseline with their intervals, the best on top."""
    rows = sorted(rows, key=lambda row: -row.mean)
    figure, axis = panels(8, 1.1 + 0.34 * len(rows))
    for place, row in enumerate(rows):
        colour = VERDICTS.get(row.verdict, GREY)
        axis.plot(row.differences, [place] * len(row.differences), "|", color=colour, markersize=9, alpha=0.55)
        if row.interval:
            axis.plot([row.interval.low, row.interval.high], [place] * 2, color=colour, linewidth=2)
        axis.plot(row.mean, place, "o", color=colour, markersize=6)
    axis.axvline(0, color=GREY, linewidth=0.8)
    if margin:
        axis.axvspan(-margin, margin, color=GREEN, alpha=0.08, linewidth=0)
    axis.set_yticks(range(len(rows)), [row.arm for row in rows])
    axis.set_ylim(-0.6, len(rows) - 0.4)
    axis.set_xlabel(f"{metric}, difference from {rows[0].baseline} (95% interval; ticks: seeds)")
    return figure


def losses(found: dict[str, Curve], name: str) -> Any:
    """Mean and extremes of the seeds against steps, tokens, FLOPs and seconds."""
    figure, grid = panels(11, 6.4, 2, 2)
    for axis, column in zip(grid.flat, AXES, strict=True):
        for i, (arm, curve) in enumerate(found.items()):
            colour, dash = COLOURS[i % len(COLOURS)], DASHES[i // len(COLOURS) % len(DASHES)]
            at = getattr(curve, column)
            if not np.isfinite(at).all():
                continue
            axis.plot(at, curve.mean, color=colour, linestyle=dash, linewidth=1.4, label=arm)
            axis.fill_between(at, curve.low, curve.high, color=colour, alpha=0.15, linewidth=0)
        axis.set_xlabel(AXES[column])
    for axis in grid[:, 0]:
        axis.set_ylabel(name)
    values = np.concatenate([curve.mean for curve in found.values()])
    low, high = values.min(), np.quantile(values, 0.98)
    grid[0, 0].set_ylim(low - 0.05 * (high - low), high + 0.05 * (high - low))
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    return figure


def save(figure: Any, path: Path) -> str:
    """Writes path.png and path.svg, and returns the SVG to be set into a page."""
    figure.savefig(path.with_suffix(".png"), dpi=140)
    import matplotlib

    text = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": path.stem}):
        figure.savefig(text, format="svg", metadata={"Date": None})
    path.with_suffix(".svg").write_text(text.getvalue(), encoding="utf-8")
    return inline(path.with_suffix(".svg"))


def inline(path: Path) -> str:
    """An SVG file as it is set into a page, as wide as there is room."""
    text = path.read_text(encoding="utf-8")
    return re.sub(r'width="[\d.]+pt" height="[\d.]+pt"', 'width="100%"', text[text.index("<svg") :], count=1)


def panels(width: float, height: float, rows: int = 1, columns: int = 1, sharey: bool = True) -> tuple[Any, Any]:
    """A figure and its axes, in the style of all pictures of studies."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, sharey=sharey)
    for axis in np.ravel(axes):
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(True, color="#E3E6E8", linewidth=0.8)
        axis.set_axisbelow(True)
    return figure, axes
