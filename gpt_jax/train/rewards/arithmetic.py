"""1 where the last number of a completion is the right one, else 0."""

from gpt_jax.judge.verifiers import arithmetic as verifiers
from gpt_jax.registry import register
from gpt_jax.train.rewards import Reward, verified


@register("train.rewards", "arithmetic", examples=("arithmetic", "arithmetic(field='result')"))
def arithmetic(*, field: str = "answer") -> Reward:
    """Whether the last number of the completion is that of this field of its row, or without such a field what the prompt
    comes to ("12+7=" to 19); None where a row has neither.

    Numbers are compared by their value: 19 is 19.0, and 1,900 is 1900.
    """
    return verified(verifiers.arithmetic(field))
