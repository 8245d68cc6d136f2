"""What answers are worth: one file per metric, each a function ``name(**arguments) -> Metric``.

A metric is made of statistics of single problems that add up: a figure is a function of their sum. So a bootstrap over
problems needs no answer to be read twice, and a figure of a whole corpus, such as BLEU, has an interval too.
"""

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpt_jax.errors import UserError
from gpt_jax.judge.problems import Answered

KIND, WHERE = "judge.metrics", "metrics"


@dataclass(frozen=True, eq=False)
class Measured:
    """Answered problems, as numbers.

    Attributes:
      statistics_NK: of each problem, float64, to be added up over problems.
      figures: from the sum [K] to numbers, by their names.
      details: from the sum to what else is reported, as JSON has it.
      means: figures that are the means of the first columns.
    """

    statistics_NK: np.ndarray
    figures: Callable[[np.ndarray], dict[str, float]]
    details: Callable[[np.ndarray], dict[str, Any]] = lambda total_K: {}
    means: tuple[str, ...] = ()


@dataclass(frozen=True)
class Metric:
    """A way to measure.

    Attributes:
      measure: of one problem or more.
      lowest: the figures of which less is better.
      samples: answers to a problem that it needs.
    """

    measure: Callable[[Sequence[Answered]], Measured]
    lowest: tuple[str, ...] = ()
    samples: int = 1


def mean(**of: Callable[[Answered], float]) -> Metric:
    """Means over problems, by their names."""
    return means(tuple(of), lambda answer: tuple(value(answer) for value in of.values()))


def means(names: Sequence[str], values: Callable[[Answered], Sequence[float]], samples: int = 1) -> Metric:
    """Means over problems of several values that are found together."""

    def measure(answered: Sequence[Answered]) -> Measured:
        return Measured(np.array([[*values(answer), 1] for answer in answered], float), figures, means=tuple(names))

    def figures(total_K: np.ndarray) -> dict[str, float]:
        return dict(zip(names, (total_K[:-1] / total_K[-1]).tolist(), strict=True))

    return Metric(measure, samples=samples)


def best_of(score: Callable[[str, str], float], text: str, references: Sequence[str]) -> float:
    """The score of a text with the reference that it fits best."""
    return max(score(text, reference) for reference in references)


def package(name: str, module: str, metric: str) -> Any:
    """A module of a package that ``requirements/eval.txt`` names.

    Raises:
      UserError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        raise UserError(
            f"{metric} needs the package {name}, which is not installed",
            where=WHERE,
            fix="pip install -r requirements/eval.txt in the checkout",
        ) from None
