"""The figure of a scaling law: losses of the runs and of the law, residuals, and compute-optimal sizes."""

from typing import Any

import numpy as np

from gpt_jax.plotting import BLUE, GREEN, GREY, VERMILION, panels
from gpt_jax.study.scaling import compute_optimal
from gpt_jax.study.scaling.analysis import ScalingAnalysis


def draw(found: ScalingAnalysis) -> Any:
    """Three panels: loss against FLOPs, relative residuals, and the optimal size with its band."""
    from matplotlib.ticker import LogLocator, NullLocator

    figure, (losses, residuals, sizes) = panels(13, 4.2, 1, 3, sharey=False)
    points = found.points
    flops, predicted = points["flops"], found.fit.predict(points)
    shade = np.log(points["params"])
    dots = losses.scatter(flops, points["loss"], c=shade, cmap="viridis", s=14)
    residuals.scatter(flops, 100 * (points["loss"] / predicted - 1), c=shade, cmap="viridis", s=14)
    residuals.axhline(0, color=GREY, linewidth=0.8)
    bar = figure.colorbar(dots, ax=losses, pad=0.02)
    ticks = np.linspace(shade.min(), shade.max(), 4).tolist()
    bar.set_ticks(ticks, labels=[f"{np.exp(tick):.2g}" for tick in ticks])
    bar.ax.set_title("params", fontsize=9)
    if found.splits:
        _optimum(found, losses, sizes)
    else:
        sizes.set_visible(False)
    losses.set(xscale="log", xlabel="training FLOPs", ylabel="loss", title="loss")
    residuals.set(xscale="log", xlabel="training FLOPs", ylabel="measured / law - 1, %", title="residuals")
    residuals.xaxis.set(major_locator=LogLocator(subs=(1, 3)), minor_locator=NullLocator(), major_formatter="{x:.0e}")
    sizes.set(xscale="log", yscale="log", xlabel="training FLOPs", ylabel="params", title="compute-optimal size")
    return figure


def _optimum(found: ScalingAnalysis, losses, sizes) -> None:
    top = found.points["flops"].max()
    at = np.geomspace(found.points["flops"].min(), 100 * top, 40)
    both = np.concatenate([found.fit.theta[None], found.samples])
    tracks = [compute_optimal.optimum(found.fit.law, both, flops) for flops in at]
    for axis, column in ((losses, 2), (sizes, 0)):
        track = np.stack([values[column] for values in tracks])
        known = np.isfinite(track[:, 1:]).any(1)
        low, high = np.nanpercentile(track[known, 1:], [2.5, 97.5], axis=1)
        axis.fill_between(
            at[known], low, high, color=VERMILION, alpha=0.25, linewidth=0, label="95% of bootstrap samples"
        )
        axis.plot(at, track[:, 0], color=VERMILION, label="compute-optimal by the law")
        axis.axvline(top, color=GREY, linewidth=0.8, linestyle=(0, (5, 3)))
    sizes.scatter(found.points["flops"], found.points["params"], color=BLUE, s=8, alpha=0.6, label="trained")
    for name, result in found.without_law.items():
        if not isinstance(result, str):
            used = [m for m in result.minima if not m.refused]
            if len(used) < 30:
                sizes.scatter([m.flops for m in used], [m.params for m in used], marker="x", color=GREEN, label=name)
    sizes.legend(frameon=False, fontsize=8)
    losses.legend(frameon=False, fontsize=8)
