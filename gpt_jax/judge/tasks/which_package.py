"""Which package of the standard library a function is from, by the likelihoods of their names
(``data.sources.which_package``)."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from gpt_jax.data.examples import Row
from gpt_jax.data.sources.which_package import PACKAGES
from gpt_jax.judge.problems import Problem, problem_of
from gpt_jax.judge.tasks import Asking, Task, asking
from gpt_jax.registry import options, register


@register(
    "judge.tasks",
    "which_package",
    examples=("which_package(packages=['json', 'logging', 'http'], problems=4, shots=1)",),
    typical="which_package(shots=4)",
)
@options(Asking)
def which_package(*, packages: list[str] | None = None, **given: Any) -> Task:
    """Accuracy, precision, recall and F1 of each package, and calibration.

    Args:
      packages: as the source has them, in the order of their numbers; its own where there is no list.
    """
    names = tuple(packages or PACKAGES)
    source = f"which_package(packages={packages!r})" if packages else "which_package"
    return Task(
        asking(given), source, ("accuracy", "classes", "calibration"), lambda row, place: _asked(row, place, names)
    )


def _asked(row: Row, place: str, names: Sequence[str]) -> Problem:
    return replace(problem_of(row, place, names), prompt=f"{row['text']}\n# from the package ")
