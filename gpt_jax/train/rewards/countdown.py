"""1 for an expression over given numbers that comes to a given target, else 0."""

from gpt_jax.judge.verifiers import countdown as verifiers
from gpt_jax.registry import register
from gpt_jax.train.rewards import WHERE, Reward, verified


@register("train.rewards", "countdown", examples=("countdown", "countdown(every=True)"))
def countdown(*, every: bool = False) -> Reward:
    """Whether the last line of the completion is an expression of + - * and parentheses that comes to the row's ``target``
    and has no numbers but those of the row's ``numbers``, each at most as often as it stands there. "= target" may follow
    it. None where a row lacks a field; an answer that cannot be read is wrong.

    Args:
      every: each of the numbers has to be used.

    Raises:
      UserError: a row's fields are no whole numbers.
    """
    return verified(verifiers.countdown(every, WHERE))
