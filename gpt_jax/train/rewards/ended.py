"""1 for a completion that the policy ended, 0 for one that was cut."""

from gpt_jax.registry import register
from gpt_jax.train.rewards import Reward


@register("train.rewards", "ended")
def ended() -> Reward:
    """Whether the policy ended the completion before its length did."""
    return lambda completions: [float(completion.ended) for completion in completions]
