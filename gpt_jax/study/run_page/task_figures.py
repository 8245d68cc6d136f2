"""What the verb eval has found out about a run by tasks, of this package and of lm-eval, from the files below eval/."""

import html
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gpt_jax.judge.bootstrap import LEVEL, Figure
from gpt_jax.storage import damaged, fields_that_differ, read_json
from gpt_jax.study.compare.verdicts import MISSING, Rows
from gpt_jax.study.report import markup
from gpt_jax.study.tasks.evaluation import FOLDER, RESULTS

Row = tuple[str, str]  # of a table: a task as it was called, and a figure
STEPS = 3  # the newest that were judged: columns of the table
OF_A_FIGURE = {"value": float, "low": float, "high": float, "problems": int}
HARNESS = "results_*.json"  # what lm-eval calls its files, with their time


def judged(workdir: Path) -> list[str]:
    """The part of the page; empty where no task was asked.

    Raises:
      StorageError: a file is damaged.
    """
    found = {step: _step(folder) for step, folder in _steps(workdir / FOLDER)}
    steps = [step for step, rows in found.items() if rows][-STEPS:]
    if not steps:
        return []
    said = f"In brackets: the {LEVEL:.0%} interval over problems; after ±: the standard error that lm-eval gives."
    pages = [path for step in steps for path in sorted((workdir / FOLDER / str(step)).glob("tasks*.html"))]
    places = ", ".join(str(path.relative_to(workdir)) for path in pages)
    return [
        "<h2>What it can do</h2>",
        markup.table(_table({step: found[step] for step in steps}), "wide words cards"),
        f"<p>{html.escape(said)}</p>",
        *([f"<p>Right and wrong answers side by side: {html.escape(places)}.</p>"] if pages else []),
    ]


def _table(found: Mapping[int, Mapping[Row, tuple[str, str]]]) -> Rows:
    """A row a figure, a column a step, and how many problems the newest of them is of."""
    rows: dict[Row, str] = {}
    for of_step in found.values():
        rows |= {row: problems for row, (_, problems) in of_step.items()}
    head = ["task", "figure", *(f"step {step:,}" for step in found), "problems"]
    none = MISSING, ""
    return [
        head,
        *([*row, *(of.get(row, none)[0] for of in found.values()), problems] for row, problems in rows.items()),
    ]


def _steps(folder: Path) -> list[tuple[int, Path]]:
    names = (path.name for path in folder.glob("*") if path.is_dir())
    return [(step, folder / str(step)) for step in sorted(int(n) for n in names if n.isascii() and n.isdecimal())]


def _step(folder: Path) -> dict[Row, tuple[str, str]]:
    """Figure and number of problems of each row, as texts."""
    found = dict(_own(folder / RESULTS))
    for path in sorted(folder.glob(HARNESS)):  # the newest last
        found |= dict(_of_the_harness(path))
    return found


def _own(path: Path) -> Iterator[tuple[Row, tuple[str, str]]]:
    for call, task in read_json(path, missing={}, fields={"tasks": dict[str, dict]}).get("tasks", {}).items():
        for name, values in _within(path, task, "figures").items():
            if wrong := fields_that_differ(values, OF_A_FIGURE) or ", ".join(OF_A_FIGURE.keys() - values.keys()):
                raise damaged(path, f"{call}, {name}: {wrong}")
            figure = Figure(**{field: values[field] for field in OF_A_FIGURE})
            yield (call, name), (str(figure), f"{figure.problems:,}")


def _of_the_harness(path: Path) -> Iterator[tuple[Row, tuple[str, str]]]:
    """What lm-eval writes: "acc,none" beside "acc_stderr,none"."""
    whole = read_json(path, missing={}, fields={"results": dict[str, dict], "n-samples": dict[str, dict]})
    counts = _within(path, whole, "n-samples")
    for task, values in _within(path, whole, "results").items():
        problems = counts[task].get("effective", MISSING) if task in counts else MISSING
        for name, value in values.items():
            metric, _, filtered = name.partition(",")
            if not filtered or metric.endswith("_stderr") or not isinstance(value, int | float):
                continue
            error = values.get(f"{metric}_stderr,{filtered}")
            spread = f" ± {error:.2g}" if isinstance(error, int | float) else ""
            shown = metric if filtered == "none" else f"{metric} ({filtered})"
            yield (f"lm_eval:{task}", shown), (f"{value:.4g}{spread}", str(problems))


def _within(path: Path, values: Mapping[str, Any], name: str) -> dict[str, Any]:
    if wrong := fields_that_differ(values, {name: dict}):
        raise damaged(path, wrong)
    return values.get(name, {})
