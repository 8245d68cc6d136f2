"""The pictures of a run: the curve of what its objective shows, and small ones of whatever else it has recorded."""

import fnmatch
import math
from typing import Any

import numpy as np

from gpt_jax.plotting import BLUE, COLOURS, VERMILION, panels
from gpt_jax.study.run_page.run_files import RunFiles
from gpt_jax.train.record.figures import curve

POINTS = 250  # of a line
COLUMNS = 3  # of small pictures
PANELS = (  # title, unit, patterns of metrics by their names without a side; drawn where there is one
    ("reward and its parts", "a completion", ("reward", "reward_*")),
    ("divergence from the reference", "nats a completion", ("kl", "kl_k3")),
    ("entropy", "nats a token", ("entropy",)),
    ("length of better and worse answers", "tokens", ("length_better", "length_worse")),
    ("answers that the policy ended", "share", ("ended",)),
    ("groups of equal reward (dead)", "share", ("dead_groups",)),
    ("targets that a clip stops", "share", ("clipped",)),
    ("ratio to the policy that wrote", "", ("ratio",)),
    ("decoder against training", "nats a token", ("sampler_gap", "sampler_gap_max")),
    ("answers left out", "share", ("left_out",)),
    ("loss of the critic", "", ("value_loss",)),
    ("rewards", "", ("*_reward",)),
    ("margin", "", ("margin",)),
    ("accuracy", "share", ("accuracy",)),
    ("log-probabilities", "nats a completion", ("*_log_prob",)),
    ("divergence from the teacher", "nats a token", ("divergence",)),
    ("examples written to the letter", "share", ("exact_match",)),
    ("norm of the gradient", "", ("grad_norm",)),
    ("learning rate", "", ("lr",)),
    ("speed", "tokens/s", ("tokens_per_second",)),
    ("share of the peak rate (MFU)", "share", ("mfu",)),
)


def main(run: RunFiles) -> tuple[Any, str] | None:
    """The figure of what the objective shows first and of what is best by it, and its words; None where there is nothing
    to draw."""
    best, units = run.objective.best, run.objective.shown
    drawn = [
        (metric, names)
        for metric in dict.fromkeys((*list(units)[:1], best.metric))
        if (names := _names(run, (metric,)))
    ]
    if not drawn:
        return None
    figure, axes = panels(10.5, 3.6, 1, len(drawn), sharey=False)
    for axis, (metric, names) in zip(np.ravel(axes), drawn, strict=True):
        for name in sorted(names):
            _line(axis, run, name, VERMILION if name.startswith("valid") else BLUE, name.partition("/")[0])
        if metric == best.metric and run.best:
            axis.plot(run.best["step"], run.best[f"valid/{metric}"], "*", color=VERMILION, markersize=13, label="best")
        axis.set(xlabel="steps", ylabel=f"{metric} ({units[metric]})" if units.get(metric) else metric)
        axis.legend(frameon=False, fontsize=9)
    return figure, _words(run, [name for _, names in drawn for name in names])


def small(run: RunFiles) -> tuple[Any, str] | None:
    """A figure of all panels that the run has values for, and its words; None where there are none."""
    found = [(title, unit, names) for title, unit, patterns in PANELS if (names := _names(run, patterns))]
    tasks = {task: [name for name in names if run.points(name)] for task, names in run.of_tasks().items()}
    found += [(f"task {task}", "", names) for task, names in tasks.items() if names]
    if not found:
        return None
    rows = math.ceil(len(found) / COLUMNS)
    figure, axes = panels(10.5, 2.35 * rows, rows, COLUMNS, sharey=False)
    for axis, (title, unit, names) in zip(np.ravel(axes), found, strict=False):
        colours: dict[str, str] = {}
        for name in names:
            metric = name.partition("/")[2]
            label = "_" if metric in colours else metric.replace("_", " ")
            _line(axis, run, name, colours.setdefault(metric, COLOURS[len(colours) % len(COLOURS)]), label)
        axis.set_title(title, fontsize=10, loc="left")
        axis.set_ylabel(unit, fontsize=9)
        axis.set_xlabel("steps", fontsize=9)
        axis.tick_params(labelsize=8)
        if len(colours) > 1:
            axis.legend(framealpha=0.7, edgecolor="none", fontsize=8, handlelength=1.4)
    for axis in np.ravel(axes)[len(found) :]:
        axis.remove()
    return figure, _words(run, [name for *_, names in found for name in names])


def _names(run: RunFiles, patterns: tuple[str, ...]) -> list[str]:
    """The metrics of these patterns that have a finite value, of training and of validation."""
    known = dict.fromkeys(name for record in run.records for name in record if "/" in name)
    found = [name for p in patterns for name in known if fnmatch.fnmatchcase(name.partition("/")[2], p)]
    return [name for name in dict.fromkeys(found) if run.points(name)]


def _line(axis: Any, run: RunFiles, name: str, colour: str, label: str) -> None:
    """Training as a line, validation as points that a line joins."""
    steps, _, values = zip(*curve(run.records, name, POINTS), strict=True)
    marker = "o" if name.startswith("valid") or len(steps) == 1 else ""
    axis.plot(steps, values, color=colour, linewidth=1.1, marker=marker, markersize=4, label=label, alpha=0.9)


def _words(run: RunFiles, names: list[str]) -> str:
    """Where each curve begins and ends, for who cannot see it."""
    ends = {name: (run.points(name)[0], run.points(name)[-1]) for name in names}
    return "; ".join(f"{n}: {a[1]:.4g} at step {a[0]:,}, {b[1]:.4g} at step {b[0]:,}" for n, (a, b) in ends.items())
