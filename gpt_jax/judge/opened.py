"""Tasks opened: the problems that are asked, the shots before them, and the metrics. All of it is a function of the task's
call and of the rows of its source, whatever model is asked."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gpt_jax import registry
from gpt_jax.config import Config
from gpt_jax.data import cache
from gpt_jax.data.examples import Examples, Row
from gpt_jax.errors import UserError
from gpt_jax.judge import metrics, tasks
from gpt_jax.judge.metrics import Metric
from gpt_jax.judge.problems import Problem
from gpt_jax.judge.tasks import Task
from gpt_jax.limits import folded

SOURCES = "data.sources"
PROBLEMS, SHOTS = range(2)  # what is drawn, in the seeds of draws
PAIR, NEXT = re.compile(r"\w+="), re.compile(r":(?=\w+=)")
SPECIAL = {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}


@dataclass(frozen=True)
class Opened:
    """A task with its problems.

    Attributes:
      name: that its figures have; the second of a kind is arithmetic_2.
      call: as it was asked for, and ``source`` likewise, where its rows are from.
      shots: of each problem.
      metrics: by their calls.
      digest: of all that decides what a model is asked.
    """

    name: str
    call: str
    source: str
    task: Task
    problems: tuple[Problem, ...]
    shots: tuple[tuple[Problem, ...], ...]
    metrics: dict[str, Metric]
    digest: str


def words_of(text: str) -> list[str]:
    """The parts of "a,b(shots=4),c:shots=4:samples=2" between its commas.

    Raises:
      UserError: there is none.
    """
    found, depth, quote = [""], 0, ""
    for letter in text:
        if quote or letter in "'\"":
            quote = "" if letter == quote else quote or letter
        else:
            depth += SPECIAL.get(letter, 0)
        if letter == "," and not depth and not quote:
            found.append("")
        else:
            found[-1] += letter
    words = [part.strip() for part in found if part.strip()]
    if not words:
        raise UserError("no task is named", where="--tasks", allowed=", ".join(registry.names(tasks.KIND)))
    return words


def calls_of(words: Sequence[str]) -> tuple[str, ...]:
    """The calls of words in which ":key=value" may stand for an argument.

    Raises:
      UserError: one has arguments in both ways.
    """
    return tuple(map(_called, words))


def _called(text: str) -> str:
    """A call, of one that may be written with colons."""
    name, colon, rest = text.partition(":")
    if not colon or not name.isidentifier():
        return text
    pairs = NEXT.split(rest)
    if not all(PAIR.match(pair) for pair in pairs):
        raise UserError(f"{text!r} is no task", where="--tasks", allowed="name, name(key=value), or name:key=value")
    return f"{name}({', '.join(pairs)})"


def names_of(calls: Sequence[str]) -> list[str]:
    """The names of tasks: that of the call, and a number where one before it has the same."""
    found: list[str] = []
    for call in calls:
        kind, _ = registry.parse(call, tasks.WHERE, tasks.KIND)
        numbered = (f"{kind}_{number}" if number > 1 else kind for number in range(1, len(found) + 2))
        found.append(next(name for name in numbered if name not in found))
    return found


def open_tasks(calls: Sequence[str], config: Config) -> list[Opened]:
    """Tasks over the sources of a run's data, or over those that they name.

    Args:
      config: of the run: ``data`` says which rows of a source are held out.

    Raises:
      UserError: there is no such task, metric or source, it has no examples or too few, or a row asks nothing.
    """
    return [_opened(name, call, config) for name, call in zip(names_of(calls), calls, strict=True)]


def built(call: str) -> tuple[Task, dict[str, Metric]]:
    """A task and its metrics.

    Raises:
      UserError: there is no such task or metric, or one needs more answers than are written.
    """
    task: Task = registry.build(tasks.KIND, call, where=tasks.WHERE)
    found: dict[str, Metric] = {one: registry.build(metrics.KIND, one, where=metrics.WHERE) for one in task.measured}
    for one, metric in found.items():
        if metric.samples > task.asking.samples:
            raise UserError(
                f"{one} needs {metric.samples} answers to a problem, and {task.asking.samples} are written",
                where=tasks.WHERE,
                fix=f"samples={metric.samples}, with a temperature above 0",
            )
    return task, found


def _opened(name: str, call: str, config: Config) -> Opened:
    task, measured = built(call)
    how = task.asking
    source = how.source or _own(task.source, config) or task.source
    examples = registry.build(SOURCES, source, config, where=tasks.WHERE)
    if not isinstance(examples, Examples):
        raise UserError(f"{source} is running text", where=tasks.WHERE, allowed="a source of examples")
    seed, heldout = folded(how.seed), len(examples.valid)
    taken = min(how.problems or heldout, heldout)
    which = np.sort(np.random.default_rng([seed, PROBLEMS]).choice(heldout, taken, replace=False))
    problems = tuple(_problem(task, examples, 1, int(i)) for i in which)
    shots = _shots(task, examples, seed, which)
    digest = cache.digest("task", call, source, examples.digest, config.data.valid_fraction)
    return Opened(name, call, source, task, problems, shots, measured, digest)


def _own(source: str, config: Config) -> str:
    """The run's own source of the same kind; empty where it has none."""
    kind, _ = registry.parse(source)
    given = config.data.source
    calls = [given] if isinstance(given, str) else [one for _, one in given]
    return next((one for one in calls if registry.parse(one, "config.data.source", SOURCES)[0] == kind), "")


def _shots(task: Task, examples: Examples, seed: int, which: np.ndarray) -> tuple[tuple[Problem, ...], ...]:
    """The shots of each problem, by its number on its side."""
    count, there = task.asking.shots, len(examples.train)
    if count > there:
        raise UserError(f"shots = {count} of {there} training rows", where=tasks.WHERE, allowed=f"0 to {there}")

    def drawn(*numbers: int) -> tuple[Problem, ...]:
        chosen = np.random.default_rng([seed, SHOTS, *numbers]).choice(there, count, replace=False)
        return tuple(_problem(task, examples, 0, int(i)) for i in chosen)

    if task.asking.each:
        return tuple(drawn(int(i)) for i in which)
    return (drawn(),) * len(which)


def _problem(task: Task, examples: Examples, side: int, i: int) -> Problem:
    places: Sequence[str] = examples.places[side]
    rows: Sequence[Row] = (examples.train, examples.valid)[side]
    return task.problem(rows[i], places[i] if places else f"row {i}")
