"""Pictures of what this room measures."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gpt_jax.plotting import BLUE, COLOURS, GREY, panels

MOST_LABELS = 48  # tokens along an axis that can still be read


def heads(maps_MNTS: np.ndarray, labels: Sequence[str]) -> Any:
    """Every head's attention on one text: a row a layer, a column a head; queries downwards, keys to the right."""
    rows, columns, length, _ = maps_MNTS.shape
    figure, axes = panels(1.9 * columns + 1.2, 1.9 * rows + 0.6, rows, columns, sharey=False)
    for m, row in enumerate(np.reshape(axes, (rows, columns))):
        for n, axis in enumerate(row):
            axis.imshow(maps_MNTS[m, n], vmin=0, vmax=1, cmap="cividis", interpolation="nearest")
            axis.grid(False)
            axis.set_title(f"layer {m + 1}, head {n + 1}", fontsize=9)
            axis.set_xticks([])
            axis.set_yticks([])
            if length <= MOST_LABELS and n == 0:
                axis.set_yticks(range(length), labels, fontsize=min(7, 130 / length), family="monospace")
    return figure


def table(values: np.ndarray, title: str, xlabel: str, ylabel: str, signed: bool = False) -> Any:
    """Numbers [rows, columns] as coloured cells with the numbers in them."""
    rows, columns = values.shape
    figure, axis = panels(1.6 + 0.62 * columns, 1.3 + 0.42 * rows)
    reach = float(np.abs(values).max()) or 1.0
    axis.imshow(values, cmap="PuOr_r" if signed else "cividis", vmin=-reach if signed else 0, vmax=reach, aspect="auto")
    axis.grid(False)
    for i in range(rows):
        for j in range(columns):
            dark = (abs(values[i, j]) > 0.6 * reach) if signed else (values[i, j] < 0.5 * reach)
            axis.text(
                j, i, f"{values[i, j]:.2g}", ha="center", va="center", fontsize=8, color="white" if dark else "black"
            )
    axis.set_xticks(range(columns), range(1, columns + 1))
    axis.set_yticks(range(rows), range(1, rows + 1))
    axis.set_title(title, fontsize=9, wrap=True)
    axis.set(xlabel=xlabel, ylabel=ylabel)
    return figure


def lens(guesses_LT: Sequence[Sequence[str]], p_LT: np.ndarray, labels: Sequence[str]) -> Any:
    """The likeliest next token at every depth and place, coloured by its probability; the last layer on top."""
    layers, length = p_LT.shape
    figure, axis = panels(1.2 + 0.62 * length, 1.2 + 0.4 * layers)
    axis.imshow(p_LT, vmin=0, vmax=1, cmap="cividis", aspect="auto", origin="lower")
    axis.grid(False)
    for i in range(layers):
        for t in range(length):
            colour = "black" if p_LT[i, t] > 0.5 else "white"
            axis.text(t, i, guesses_LT[i][t], ha="center", va="center", fontsize=7, color=colour, family="monospace")
    axis.set_xticks(range(length), labels, fontsize=7, family="monospace", rotation=45, ha="right")
    axis.set_yticks(range(layers), ["embedding", *range(1, layers)])
    axis.set(xlabel="token read", ylabel="layer")
    return figure


def losses(mean_T: np.ndarray, low_T: np.ndarray, high_T: np.ndarray) -> Any:
    """Nats by place in the window, with the standard error."""
    figure, axis = panels(7, 3.6)
    at = np.arange(1, len(mean_T) + 1)
    axis.plot(at, mean_T, color=BLUE, linewidth=1.4)
    axis.fill_between(at, low_T, high_T, color=BLUE, alpha=0.2, linewidth=0)
    axis.set(xlabel="tokens read", ylabel="loss of the next one (nats)")
    return figure


def spectra(found: Mapping[str, np.ndarray], ylabel: str) -> Any:
    """Values by rank, each curve scaled to its largest."""
    figure, axis = panels(7, 4.4)
    for i, (name, values) in enumerate(found.items()):
        colour = COLOURS[i % len(COLOURS)] if len(found) <= len(COLOURS) else GREY
        axis.plot(np.arange(1, len(values) + 1), values / max(values[0], 1e-30), color=colour, linewidth=1, label=name)
    axis.set(xscale="log", yscale="log", ylim=(1e-4, 1.3), xlabel="rank", ylabel=ylabel)
    if len(found) <= len(COLOURS):
        axis.legend(frameon=False, fontsize=8)
    return figure
