"""Expressions over given numbers that come to a given target, checked by a programme (``data.sources.countdown``)."""

from typing import Any

from gpt_jax.judge.tasks import WHERE, Asking, Task, asking
from gpt_jax.judge.verifiers import countdown as verifiers
from gpt_jax.registry import options, register


@register(
    "judge.tasks",
    "countdown",
    examples=("countdown(problems=4)", "countdown(problems=4, samples=2, temperature=1.0, metrics=('pass_at(k=2)',))"),
)
@options(Asking)
def countdown(*, every: bool = False, **given: Any) -> Task:
    """The share of right expressions, whichever they are.

    Args:
      every: each of the numbers has to be used.
    """
    return Task(asking(given), "countdown", ("correct",), verify=verifiers.countdown(every, WHERE))
