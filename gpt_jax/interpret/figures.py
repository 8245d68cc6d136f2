"""Figures of attention, logit lens, losses and spectra. Layers and heads count from 0, as everywhere in this room."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gpt_jax.plotting import BLUE, COLOURS, panels

MOST_LABELS = 48  # tokens along an axis that can still be read
SHOWN = 95  # percentile at which a scale of colours ends, so that a few large values do not leave the rest dark
CUT = 1.5  # the largest value is kept where it is not so many times as large
FLOOR = 1e-4  # of spectra, relative to the largest value
LINES = ("-", "--", ":")


def heads(maps_MNTS: np.ndarray, labels: Sequence[str]) -> Any:
    """Every head's attention on one text: a row a layer, a column a head; queries downwards, keys to the right."""
    rows, columns, length, _ = maps_MNTS.shape
    figure, axes = panels(1.9 * columns + 1.6, 1.9 * rows + 0.9, rows, columns, sharey=False)
    # Attention to the first token, often near 1, would leave all other weights dark.
    typical_TS = np.tri(length, k=-1, dtype=bool)
    typical_TS[:, 0] = False
    top, note = _top(maps_MNTS[:, :, typical_TS], maps_MNTS)
    for m, row in enumerate(np.reshape(axes, (rows, columns))):
        for n, axis in enumerate(row):
            image = axis.imshow(maps_MNTS[m, n], vmin=0, vmax=top, cmap="cividis", interpolation="nearest")
            axis.grid(False)
            axis.set_title(f"layer {m}, head {n}", fontsize=9)
            axis.set_xticks([])
            axis.set_yticks([])
            if length <= MOST_LABELS and n == 0:
                axis.set_yticks(range(length), labels, fontsize=min(7, 130 / length), family="monospace")
    bar = figure.colorbar(image, ax=axes, shrink=min(1.0, 2.5 / rows), extend="max" if note else "neither")
    bar.set_label("attention weight", fontsize=8)
    figure.suptitle(note, fontsize=8)
    return figure


def _top(typical: np.ndarray, everything: np.ndarray) -> tuple[float, str]:
    """Where a scale of colours from 0 ends, and what is beyond it in words; no words where nothing is.

    Args:
      typical: the values whose ``SHOWN`` percentile is the end.
      everything: the values that are drawn.
    """
    largest = float(np.abs(everything).max())
    top = float(np.percentile(np.abs(typical), SHOWN)) if typical.size else largest
    if not 0 < top < largest / CUT:
        return largest or 1.0, ""
    beyond = float((np.abs(everything) > top).mean())
    return top, f"colours end at {top:.2g}; {beyond:.1%} of the values are beyond, up to {largest:.2g}"


def table(values: np.ndarray, title: str, xlabel: str, ylabel: str, signed: bool = False) -> Any:
    """Numbers [rows, columns] as coloured cells with the numbers in them."""
    rows, columns = values.shape
    figure, axis = panels(2.6 + 0.62 * columns, 1.5 + 0.42 * rows)
    reach, note = _top(values, values)
    image = axis.imshow(
        values, cmap="PuOr_r" if signed else "cividis", vmin=-reach if signed else 0, vmax=reach, aspect="auto"
    )
    figure.colorbar(image, ax=axis, extend=("both" if signed else "max") if note else "neither")
    axis.grid(False)
    for i in range(rows):
        for j in range(columns):
            dark = (abs(values[i, j]) > 0.6 * reach) if signed else (values[i, j] < 0.5 * reach)
            axis.text(
                j, i, f"{values[i, j]:.2g}", ha="center", va="center", fontsize=8, color="white" if dark else "black"
            )
    axis.set_xticks(range(columns))
    axis.set_yticks(range(rows))
    axis.set_title("\n".join(filter(None, (title, note))), fontsize=8, wrap=True)
    axis.set(xlabel=xlabel, ylabel=ylabel)
    return figure


def lens(guesses_LT: Sequence[Sequence[str]], p_LT: np.ndarray, labels: Sequence[str]) -> Any:
    """The likeliest next token at every depth and place, coloured by its probability; the last layer on top."""
    layers, length = p_LT.shape
    figure, axis = panels(2.2 + 0.62 * length, 1.2 + 0.4 * layers)
    image = axis.imshow(p_LT, vmin=0, vmax=1, cmap="cividis", aspect="auto", origin="lower")
    figure.colorbar(image, ax=axis, pad=0.01).set_label("probability", fontsize=8)
    axis.grid(False)
    for i in range(layers):
        for t in range(length):
            colour = "black" if p_LT[i, t] > 0.5 else "white"
            axis.text(t, i, guesses_LT[i][t], ha="center", va="center", fontsize=7, color=colour, family="monospace")
    axis.set_xticks(range(length), labels, fontsize=7, family="monospace", rotation=45, ha="right")
    axis.set_yticks(range(layers), ["embedding", *range(layers - 1)])
    axis.set(xlabel="token read", ylabel="after layer")
    return figure


def losses(mean_T: np.ndarray, low_T: np.ndarray, high_T: np.ndarray) -> Any:
    """Nats by place in the window, with the standard error."""
    figure, axis = panels(7, 3.6)
    at = np.arange(1, len(mean_T) + 1)
    axis.plot(at, mean_T, color=BLUE, linewidth=1.4, label="mean over windows")
    axis.fill_between(at, low_T, high_T, color=BLUE, alpha=0.2, linewidth=0, label="± standard error")
    axis.set(xlabel="tokens read", ylabel="loss of the next one (nats)")
    axis.legend(frameon=False, fontsize=8)
    return figure


def spectra(found: Mapping[str, np.ndarray], ylabel: str) -> Any:
    """Values by rank, each curve scaled to its largest. Curves whose names differ in numbers alone share a colour, from
    light for the first to dark for the last, and a row of the legend."""
    figure, axis = panels(9, 4.4)
    kinds: dict[str, list[str]] = {}
    for name in found:
        kinds.setdefault(re.sub(r"\d+", "*", name), []).append(name)
    for i, names in enumerate(kinds.values()):
        for j, name in enumerate(names):
            scaled = found[name] / max(found[name][0], 1e-30)
            axis.plot(
                np.arange(1, len(scaled) + 1),
                scaled,
                color=COLOURS[i % len(COLOURS)],
                alpha=0.3 + 0.7 * (j + 1) / len(names),
                linestyle=LINES[i // len(COLOURS) % len(LINES)],
                linewidth=1,
                label=_label(names) if name == names[-1] else None,
            )
    axis.set(xscale="log", yscale="log", ylim=(FLOOR, 1.3), xlabel="rank", ylabel=ylabel)
    lowest = min(float(values[-1] / max(values[0], 1e-30)) for values in found.values())
    if lowest < FLOOR:
        axis.set_title(f"values below {FLOOR:g} of the largest are not shown; the smallest is {lowest:.1g}", fontsize=8)
    figure.legend(*axis.get_legend_handles_labels(), loc="outside right upper", frameon=False, fontsize=7)
    return figure


def _label(names: Sequence[str]) -> str:
    """Names that differ in a number, as one: "blocks/0–3/mlp/up/w, light to dark"."""
    if len(names) == 1:
        return names[0]
    numbers = [re.search(r"\d+", name) for name in names]
    first, last = numbers[0], numbers[-1]
    assert first and last
    return f"{names[0][: first.start()]}{first[0]}–{last[0]}{names[0][first.end() :]}, light to dark"
