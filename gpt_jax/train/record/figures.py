"""The picture of a run: its loss, or its reward, against steps, tokens and FLOPs."""

import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gpt_jax.errors import UserError
from gpt_jax.plotting import BLUE, GREEN, GREY, VERMILION
from gpt_jax.storage import make_folder, writing
from gpt_jax.train.record.metrics import NAME, read, read_summary
from gpt_jax.train.record.progress import quantity

PATH = Path("figures") / "loss.png"  # in a run directory
FLOPS = "training FLOPs"
NATS = "nats/token"  # of runs whose summary says nothing
_SPAN = 1000  # points drawn per curve; longer runs are averaged down to it


def loss_figure(workdir: str | Path) -> Path:
    """Draws figures/loss.png from metrics.jsonl and summary.json and returns its path.

    Three panels share the loss, or the first metric that the summary shows, in the unit that it says: against steps, tokens,
    and training FLOPs, the last where the summary says how many were done. Where summary.json has facts.entropy_rate (of a
    synthetic source), it is drawn as the floor.

    Raises:
      UserError: there is no loss to draw.
      StorageError: the disk refuses.
    """
    workdir = Path(workdir)
    records, summary = read(workdir), read_summary(workdir)
    name, unit = next(iter(summary["shown"].items())) if "shown" in summary else ("loss", NATS)
    curves = {split: curve(records, f"{split}/{name}") for split in ("train", "valid")}
    if not any(curves.values()):
        raise UserError(f"{NAME} holds no finite train/{name} or valid/{name}", where=str(workdir), fix="train first")
    highest = summary.get("highest_is_best", False) and summary["best_by"] == f"valid/{name}"

    axes_of = {"steps": (0, 1.0), "tokens": (1, 1.0)}  # label -> (column of the curve, factor)
    if summary.get("tokens") and summary.get("flops"):
        axes_of[FLOPS] = (1, summary["flops"] / summary["tokens"])
    floor = summary.get("facts", {}).get("entropy_rate")
    figure, panels = _blank(tuple(axes_of))
    panels[0].set_ylabel(f"{name} ({unit})" if unit else name, color="#222222")
    for panel, (column, factor) in zip(panels, axes_of.values(), strict=True):
        # What is evaluated before the first update has no place on a logarithmic axis.
        drawn = {
            split: [(c[column] * factor, c[2]) for c in curve if c[column] or not column]
            for split, curve in curves.items()
        }
        _draw(panel, drawn, floor)
        _fit(panel, logarithmic=column == 1)
    panels[0].set_ylim(*_limits(curves, floor, cut=not highest))
    panels[0].legend(loc="lower right" if highest else "upper right", frameon=False, fontsize=9.5, handlelength=1.6)
    left = figure.subplotpars.left
    figure.text(left, 0.935, workdir.resolve().name, fontsize=13, weight="bold", color="#111111")
    figure.text(left, 0.875, _caption(curves, summary, max if highest else min), fontsize=9.5, color=GREY)
    path = workdir / PATH
    make_folder(path.parent)
    with writing(path):
        figure.savefig(path)
    return path


def curve(records: list[dict[str, Any]], name: str, most: int = _SPAN) -> list[tuple[float, float, float]]:
    """(step, tokens, value) of every finite value, averaged down to at most ``most`` points where they are more."""
    points = [(r["step"], r["tokens"], r[name]) for r in records if math.isfinite(r.get(name, math.nan))]
    group = math.ceil(len(points) / most)
    groups = [points[i : i + group] for i in range(0, len(points), group)] if points else []
    return [tuple(sum(column) / len(g) for column in zip(*g, strict=True)) for g in groups]


def _draw(panel: Any, curves: dict[str, list[tuple[float, float]]], floor: float | None) -> None:
    if curves["train"]:
        panel.plot(*zip(*curves["train"], strict=True), color=BLUE, linewidth=1.3, alpha=0.85, label="train")
    if curves["valid"]:
        mark = {"marker": "o", "markersize": 4.5, "markeredgecolor": "white", "markeredgewidth": 0.7}
        panel.plot(*zip(*curves["valid"], strict=True), color=VERMILION, linewidth=1.6, label="valid", **mark)
    if floor is not None:
        panel.axhline(floor, color=GREEN, linewidth=1.3, linestyle=(0, (5, 3)), label=f"entropy rate {floor:.4g}")


@functools.cache
def _frame(labels: tuple[str, ...]) -> tuple[Any, Any]:
    """A figure with a formatted panel for each label; reused, as ticks are most of the work and a sweep has many runs."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    width = 4.3 * len(labels)
    figure = Figure(figsize=(width, 4.2), dpi=140)
    FigureCanvasAgg(figure)
    figure.subplots_adjust(left=0.75 / width, right=0.985, top=0.83, bottom=0.135, wspace=0.07)
    panels = figure.subplots(1, len(labels), sharey=True)
    for panel, label in zip(panels, labels, strict=True):
        _dress(panel, label)
    panels[0].yaxis.set_label_coords(-0.14, 0.5)
    return figure, panels


def _blank(labels: tuple[str, ...]) -> tuple[Any, Any]:
    """The figure without the curves drawn last."""
    figure, panels = _frame(labels)
    for artist in (*figure.texts, *(line for panel in panels for line in panel.lines)):
        artist.remove()
    for panel in panels:
        panel.relim()
        panel.autoscale(axis="x")
    return figure, panels


def _dress(panel: Any, label: str) -> None:
    from matplotlib.ticker import FuncFormatter

    panel.set_xlabel(label if label == "steps" else f"{label} (log scale)", color="#222222")
    panel.set_xscale("linear" if label == "steps" else "log")
    # Matplotlib would lay out every tick once more to find the place.
    panel.xaxis.set_label_coords(0.5, -0.095)
    write = "{:.0e}".format if label == FLOPS else quantity
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: write(value)))
    panel.grid(True, color="#E3E6E8", linewidth=0.8)
    panel.set_axisbelow(True)
    panel.spines[["top", "right"]].set_visible(False)
    panel.spines[["left", "bottom"]].set_color("#9AA3A9")
    panel.tick_params(which="both", color="#9AA3A9", labelcolor="#333333", labelsize=9)


def _fit(panel: Any, logarithmic: bool) -> None:
    """Limits and ticks for what was drawn."""
    from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

    if logarithmic:
        low, high = panel.get_xlim()
        panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 100 * low else (1,)))
        panel.xaxis.set_minor_locator(NullLocator())
    else:
        panel.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        panel.set_xlim(left=0)


def _limits(curves: dict[str, list[tuple[float, float, float]]], floor: float | None, cut: bool) -> tuple[float, float]:
    """The range with a margin; a spike above the first loss is cut off."""
    values = [value for curve in curves.values() for _, _, value in curve]
    starts = [curve[0][2] for curve in curves.values() if curve]
    low = min(values if floor is None else [*values, floor])
    high = min(max(values), 1.15 * max(starts)) if cut else max(values)
    margin = 0.05 * (high - low or 1.0)
    return low - margin, high + margin


def _caption(curves: dict[str, list[tuple[float, float, float]]], summary: dict[str, Any], choose: Callable) -> str:
    """The run's result in a line."""
    last = max((curve[-1] for curve in curves.values() if curve), key=lambda point: point[0])
    parts = [f"{last[0]:,.0f} steps", f"{quantity(last[1])} tokens"]
    if summary.get("flops"):
        parts.append(f"{summary['flops']:.2e} FLOPs")
    if curves["valid"]:
        best = choose(curves["valid"], key=lambda point: point[2])
        parts.append(f"valid {curves['valid'][-1][2]:.4f} at the end, {best[2]:.4f} at best (step {best[0]:,.0f})")
    return "  ·  ".join(parts)
