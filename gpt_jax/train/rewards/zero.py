"""0 for every completion: what is learned is the divergence alone, as in distillation on the policy's own texts."""

from gpt_jax.registry import register
from gpt_jax.train.rewards import Reward


@register("train.rewards", "zero")
def zero() -> Reward:
    """Nothing."""
    return lambda completions: [0.0] * len(completions)
