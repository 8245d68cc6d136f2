"""The results of ``benchmarks.growth`` as a table with slopes, and as a picture."""

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import table as tables
from benchmarks.worker import ROOT
from gpt_jax import plotting

DOCUMENT = ROOT / "docs" / "performance.md"
PICTURE = ROOT / "docs" / "growth.svg"
# What is measured, and the key of what theory says of it.
CURVES = {"step": ("flops", "step, s"), "memory": ("bytes", "memory, MiB"), "compile": (None, "compilation, s")}
MIB = 2**20


def label(knob: str, scan: bool) -> str:
    return f"{knob}, scanned" if scan else knob


def summary(found: dict[str, Any]) -> str:
    if "error" in found:
        return found["error"]
    return f"step {found['step']:.3g} s, {found['memory'] / MIB:.0f} MiB, compiled in {found['compile']:.1f} s"


def slope(x: list[float], y: list[float]) -> float:
    """The exponent p of y ~ x^p, by least squares in logarithms, to 9 decimals: beyond these rounding differs by machine."""
    return round(float(np.polyfit(np.log(x), np.log(y), 1)[0]), 9) + 0.0  # no -0


def table(results: dict[str, Any]) -> str:
    """The measured figures of each axis, and their slopes beside those of theory over the same points."""
    rows = [["", "step, s", "memory, MiB", "compilation, s"]]
    for name, points in results["axes"].items():
        good = {value: found for value, found in points.items() if "error" not in found}
        for value, found in points.items():
            cells = ["–"] * 3 if "error" in found else _cells(found)
            rows.append([f"{name} {value}", *cells])
        if len(good) > 1:
            rows.append([f"**{name}: slope, in brackets theory's**", *(_slope(good, curve) for curve in CURVES)])
    text = tables.markdown(rows)
    sizes = ", ".join(f"{knob} {value}" for knob, value in axes_sizes().items())
    if "start_up" in results:
        start = results["start_up"]
        text += (
            f"\n\nStart-up, from the command to the first step: {start['cold']:.1f} s, {start['warm']:.1f} s with the "
        )
        text += "cache of compiled programs filled."
    return f"{text}\n\nOtherwise {sizes}. {tables.conditions(results)}"


def axes_sizes() -> dict[str, int]:
    from benchmarks.growth import axes

    return {**axes.SIZES, "batch": axes.BATCH}


def _cells(found: dict[str, Any]) -> list[str]:
    return [f"{found['step']:.3g}", f"{found['memory'] / MIB:.0f}", f"{found['compile']:.1f}"]


def _slope(points: dict[str, Any], curve: str) -> str:
    x = [float(value) for value in points]
    measured = slope(x, [found[curve] for found in points.values()])
    theory = CURVES[curve][0]
    if theory is None:
        return f"**{measured:.2f}**"
    return f"**{measured:.2f}** ({slope(x, [found[theory] for found in points.values()]):.2f})"


def write(results: dict[str, Any]) -> Path:
    """Puts the table between its markers in docs/performance.md, and draws docs/growth.svg."""
    document = DOCUMENT.read_text(encoding="utf-8")
    DOCUMENT.write_text(tables.insert(document, "growth", table(results)), encoding="utf-8")
    draw(results, PICTURE)
    return PICTURE


def draw(results: dict[str, Any], path: Path) -> None:
    """A column an axis, a row a figure: measured points, and theory's curve through the last of them."""
    knobs = list(dict.fromkeys(name.partition(",")[0] for name in results["axes"]))
    figure, grid = plotting.panels(10, 8, rows=len(CURVES), columns=len(knobs), sharey=False)
    for column, knob in zip(np.reshape(grid, (len(CURVES), -1)).T, knobs, strict=True):
        for axis, (curve, (theory, title)) in zip(column, CURVES.items(), strict=True):
            for name, colour in zip((knob, f"{knob}, scanned"), plotting.COLOURS, strict=False):
                _draw_one(axis, results["axes"].get(name, {}), curve, theory, name, colour)
            axis.set(xscale="log", yscale="log", xlabel=knob, ylabel=title)
            axis.legend(frameon=False)
    plotting.save(figure, path)
    path.with_suffix(".png").unlink()


def _draw_one(axis: Any, points: dict[str, Any], curve: str, theory: str | None, name: str, colour: str) -> None:
    good = {float(value): found for value, found in points.items() if "error" not in found}
    if not good:
        return
    scale = MIB if curve == "memory" else 1
    x, y = list(good), [found[curve] / scale for found in good.values()]
    axis.plot(x, y, "o-", color=colour, label=name)
    if theory:
        ideal = [found[theory] for found in good.values()]
        axis.plot(
            x, [value * y[-1] / ideal[-1] for value in ideal], "--", color=colour, alpha=0.6, label="theory's slope"
        )
