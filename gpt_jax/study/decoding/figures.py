"""The figures of a study of decoding."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from gpt_jax.plotting import BLUE, COLOURS, GREY, VERMILION, panels
from gpt_jax.study.decoding.metrics import METRICS, SECOND, Estimate, estimate
from gpt_jax.study.decoding.repetition import seen_before
from gpt_jax.study.decoding.samplers import HUMAN, Sampler
from gpt_jax.study.decoding.study import Study

N = 4  # of the repeated n-grams
SMOOTHED = 9  # positions
DASHES = ("-", "--", ":")
PLAIN = {"temperature": 1.0, "top_p": 1.0}
MAPPED = ("perplexity", "seq_rep_4", "frontier")


def frontier(study: Study) -> Any:
    """Quality against diversity: perplexity, under the second model where there is one, and 1 - self-BLEU, with intervals.
    Samplers of one temperature are joined."""
    quality = "perplexity_second" if SECOND in study.corpora[HUMAN][0].scores else "perplexity"
    figure, axis = panels(9, 5.6)
    points = {name: (_diversity(study, name), estimate(study.values[name][quality])) for name in study.values}
    for family in _families(study.samplers):
        joined = [points[sampler.name] for sampler in family]
        axis.plot([x.value for x, _ in joined], [y.value for _, y in joined], color="#C9CFD4", linewidth=1, zorder=1)
    for i, (name, (x, y)) in enumerate(points.items()):
        human = name == HUMAN
        colour = VERMILION if human else COLOURS[i % len(COLOURS)] if len(points) <= len(COLOURS) else BLUE
        _cross(axis, x, y, colour, "*" if human else "o")
    _named(axis, points)
    axis.set_yscale("log", subs=(2, 5))
    for which in (axis.yaxis.set_major_formatter, axis.yaxis.set_minor_formatter):
        which("{x:g}")
    axis.set_xlabel("diversity: 1 - self-BLEU")
    axis.set_ylabel(f"perplexity{' under the second model' if quality == 'perplexity_second' else ''}")
    return figure


def heat_map(study: Study) -> Any | None:
    """Metrics over temperature x top-p; None where the grid does not cross them."""
    cells = {
        (sampler.knobs["temperature"], sampler.knobs["top_p"]): sampler.name
        for sampler in study.samplers
        if set(sampler.knobs) == set(PLAIN) and sampler.knobs["temperature"]
    }
    rows, columns = (sorted({cell[i] for cell in cells}) for i in (0, 1))
    if min(len(rows), len(columns)) < 2 or len(cells) < len(rows) * len(columns):
        return None
    figure, axes = panels(11, 1.6 + 0.6 * len(rows), 1, len(MAPPED))
    for axis, name in zip(axes, MAPPED, strict=True):
        values = np.array([[study.values[cells[t, p]][name].mean() for p in columns] for t in rows])
        image = axis.imshow(values, cmap="cividis", aspect="auto", origin="lower")
        middle = (values.min() + values.max()) / 2
        for i, j in np.ndindex(*values.shape):
            colour = "white" if values[i, j] < middle else "black"
            axis.text(j, i, f"{values[i, j]:.3g}", ha="center", va="center", color=colour, fontsize=10)
        axis.grid(False)
        axis.set_xticks(range(len(columns)), [f"{p:g}" for p in columns])
        axis.set_yticks(range(len(rows)), [f"{t:g}" for t in rows])
        human = study.values[HUMAN].get(name)
        axis.set_title(METRICS[name].title + ("" if human is None else f" (human: {human.mean():.3g})"), fontsize=10)
        axis.set_xlabel("top-p")
        figure.colorbar(image, ax=axis)
    axes[0].set_ylabel("temperature")
    return figure


def repetition(study: Study) -> Any:
    """The share of n-grams that stand in their text before, by their position, and up to a length: the latter is seq-rep-n
    of the text so far."""
    figure, (here, until) = panels(11, 4.6, 1, 2)
    for i, name in enumerate(study.corpora):
        seen_T, count_T = _seen(study, name)
        position_T = np.arange(N, N + len(seen_T))
        colour = GREY if name == HUMAN else COLOURS[i % (len(COLOURS) - 1)]
        look = dict(color="black" if name == HUMAN else colour, linewidth=2.4 if name == HUMAN else 1.2, label=name)
        look["linestyle"] = DASHES[i // (len(COLOURS) - 1) % len(DASHES)]
        smooth = min(SMOOTHED, len(seen_T))
        here.plot(position_T[smooth - 1 :], _moving(seen_T, smooth) / _moving(count_T, smooth), **look)
        until.plot(position_T, np.cumsum(seen_T) / np.cumsum(count_T), **look)
    here.set(xlabel="position, tokens", ylabel=f"share of repeated {N}-grams")
    until.set(xlabel="length, tokens", ylabel=f"seq-rep-{N}")
    handles, labels = here.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    return figure


def _families(samplers: Sequence[Sampler]) -> list[list[Sampler]]:
    """Samplers that differ in top-p alone, in its order."""
    crossed = [s for s in samplers if set(s.knobs) == set(PLAIN)]
    temperatures = sorted({s.knobs["temperature"] for s in crossed})
    return [
        sorted((s for s in crossed if s.knobs["temperature"] == t), key=lambda s: s.knobs["top_p"])
        for t in temperatures
    ]


def _diversity(study: Study, name: str) -> Estimate:
    return estimate(1 - study.values[name]["self_bleu"])


def _cross(axis: Any, x: Estimate, y: Estimate, colour: str, marker: str) -> None:
    if x.interval is not None:
        axis.plot([x.interval.low, x.interval.high], [y.value] * 2, color=colour, linewidth=1, alpha=0.6)
    if y.interval is not None:
        axis.plot([x.value] * 2, [y.interval.low, y.interval.high], color=colour, linewidth=1, alpha=0.6)
    axis.plot(x.value, y.value, marker, color=colour, markersize=13 if marker == "*" else 6)


def _named(axis: Any, points: dict[str, tuple[Estimate, Estimate]]) -> None:
    """A number at each point, and beside the picture what it stands for: names would overlap."""
    order = sorted(points, key=lambda name: points[name][1].value)
    for number, name in enumerate(order, start=1):
        x, y = points[name]
        axis.annotate(str(number), (x.value, y.value), (5, 5), textcoords="offset points", fontsize=9)
        axis.plot([], [], " ", label=f"{number}  {name}")
    axis.figure.legend(loc="outside right upper", frameon=False, fontsize=9, handlelength=0)


def _seen(study: Study, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Of the n-grams that end at each position, how many stand in their text before, and how many there are."""
    found = [seen_before(ids, N) for corpus in study.corpora[name] for ids in corpus.texts]
    longest = max(1, *map(len, found))
    seen_T, count_T = np.zeros(longest), np.zeros(longest)
    for seen in found:
        seen_T[: len(seen)] += seen
        count_T[: len(seen)] += 1
    return seen_T, np.maximum(count_T, 1)


def _moving(values_T: np.ndarray, width: int) -> np.ndarray:
    return np.convolve(values_T, np.ones(width), "valid")
