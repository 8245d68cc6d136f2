"""Sums, differences and products: the last number of an answer is the one that counts (``data.sources.arithmetic``)."""

from typing import Any

from gpt_jax.judge.tasks import Asking, Task, asking
from gpt_jax.judge.verifiers import arithmetic as verifiers
from gpt_jax.registry import options, register


@register(
    "judge.tasks",
    "arithmetic",
    examples=(
        "arithmetic(problems=4, shots=1)",
        "arithmetic(problems=4, samples=3, temperature=1.0, metrics=('majority_at(k=3)', 'pass_at(k=2)'))",
    ),
)
@options(Asking)
def arithmetic(**given: Any) -> Task:
    """The share of right answers. Answers with the same last number are one vote."""
    return Task(asking(given), "arithmetic", ("correct",), verify=verifiers.arithmetic(), vote=_number)


def _number(text: str) -> str:
    found = verifiers.last_number(text)
    return "" if found is None else str(found.normalize())
