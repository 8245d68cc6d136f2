"""Tasks put to a model: its answers, and figures of them."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpt_jax.judge import bootstrap
from gpt_jax.judge.bootstrap import Figure
from gpt_jax.judge.metrics import Measured
from gpt_jax.judge.opened import Opened, built, names_of
from gpt_jax.judge.options import choose
from gpt_jax.judge.problems import Answered
from gpt_jax.judge.prompting import Judged
from gpt_jax.judge.writing import write

Bar = Callable[[Iterable, int], Iterable]


@dataclass(frozen=True)
class Answers:
    """What a model said to the problems of a task.

    Attributes:
      numbers: of the problems that fitted into its context.
      answered: those problems, in their order.
    """

    numbers: tuple[int, ...]
    answered: tuple[Answered, ...]

    def only(self, numbers: Iterable[int]) -> "Answers":
        """Those to some of the problems, as far as they are there."""
        wanted = set(numbers)
        kept = [(i, one) for i, one in zip(self.numbers, self.answered, strict=True) if i in wanted]
        return Answers(tuple(i for i, _ in kept), tuple(one for _, one in kept))


def answers(
    opened: Opened, judged: Judged, stop: Callable[[], bool] = lambda: False, bar: Bar = lambda items, total: items
) -> Answers | None:
    """What a model says to the problems of a task; None once ``stop`` returns true.

    Args:
      bar: (steps, how many) -> the same steps, for a progress bar.

    Raises:
      UserError: problems do not fit into the context (``Prompting.fitting``), or cannot be judged.
    """
    prompting = judged.prompting(opened.task.asking)
    numbers = prompting.fitting(opened)
    problems, shots = [opened.problems[i] for i in numbers], [opened.shots[i] for i in numbers]
    if problems[0].options:
        steps = choose(judged, prompting, problems, shots)
        total = sum(len(problem.options) for problem in problems)
    else:
        steps = write(judged, prompting, opened.task, problems, shots)
        total = len(problems) * opened.task.asking.samples
    found = []
    for answer in bar(steps, total + len(problems)):
        if stop():
            return None
        if answer is not None:
            found.append(answer)
    return Answers(tuple(numbers), tuple(found))


def values(opened: Opened, given: Answers) -> dict[str, float]:
    """The figures of a task by their names, without intervals; those of groups are exact/distance=2."""
    found: dict[str, float] = {}
    for group, measured, rows in _measured(opened, given.answered):
        figures = measured.figures(measured.statistics_NK[rows].sum(0))
        found |= {f"{name}{group}": value for name, value in figures.items()}
    return found


def figures(opened: Opened, given: Answers) -> dict[str, Figure]:
    """The same, with intervals."""
    found: dict[str, Figure] = {}
    for group, measured, rows in _measured(opened, given.answered):
        statistics_NK = measured.statistics_NK[rows]
        intervals = bootstrap.intervals(measured.figures, statistics_NK, opened.task.asking.seed)
        intervals |= bootstrap.shares(dict(zip(measured.means, statistics_NK.T, strict=False)))
        found |= {f"{name}{group}": figure for name, figure in intervals.items()}
    return found


def differences(opened: Opened, one: Answers, other: Answers) -> dict[str, Figure]:
    """By how much a model's figures are higher than another's, with intervals, over the problems that both have answered."""
    one, other = one.only(other.numbers), other.only(one.numbers)
    pairs = zip(_measured(opened, one.answered), _measured(opened, other.answered), strict=True)
    found: dict[str, Figure] = {}
    for (group, first, rows), (_, second, _) in pairs:
        statistics = first.statistics_NK[rows], second.statistics_NK[rows]
        made = bootstrap.differences(first.figures, *statistics, opened.task.asking.seed)
        found |= {f"{name}{group}": figure for name, figure in made.items()}
    return found


def details(opened: Opened, given: Answers) -> dict[str, Any]:
    """What else metrics report: signatures, confusion, bins."""
    found: dict[str, Any] = {}
    for metric in opened.metrics.values():
        measured = metric.measure(given.answered)
        found |= measured.details(measured.statistics_NK.sum(0))
    return found


def lower_is_better(calls: Sequence[str], task: str, figure: str) -> bool | None:
    """Whether less of a figure of one of these tasks is better; None where no task has that name."""
    known = dict(zip(names_of(calls), calls, strict=True))
    if task not in known:
        return None
    _, metrics = built(known[task])
    return any(figure.partition("/")[0] in metric.lowest for metric in metrics.values())


def _measured(opened: Opened, answered: Sequence[Answered]) -> Iterator[tuple[str, Measured, np.ndarray]]:
    """Every metric over all problems, and the main one over each group: (what is added to names, statistics, their rows)."""
    groups = np.array([one.problem.group for one in answered])
    for number, metric in enumerate(opened.metrics.values()):
        measured = metric.measure(answered)
        yield "", measured, np.ones(len(answered), bool)
        for group in sorted({str(name) for name in groups} - {""}) if number == 0 else ():
            yield f"/{group}", measured, groups == group
