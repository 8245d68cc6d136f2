"""Exact match: the share of answers that are a right one letter by letter, blanks around both aside."""

from collections.abc import Sequence

from gpt_jax.judge.metrics import Metric, mean
from gpt_jax.registry import register


@register("judge.metrics", "exact")
def exact() -> Metric:
    return mean(exact=lambda answer: is_exact(answer.texts[0], answer.problem.answers))


def is_exact(text: str, references: Sequence[str]) -> float:
    """1 where the text is one of the references, else 0."""
    return float(text.strip() in {reference.strip() for reference in references})
