"""Attention to the last ``window`` tokens."""

from flax import nnx

from gpt_jax.config import ModelConfig
from gpt_jax.errors import UserError
from gpt_jax.model.attend import Reach
from gpt_jax.model.attention.full import Options, SoftmaxAttention
from gpt_jax.registry import options, register


@register("model.attention", "sliding", examples=("sliding(window=5)",), typical="sliding(window=512)")
@options(Options)
def sliding(config: ModelConfig, rngs: nnx.Rngs, *, window: int, **given) -> SoftmaxAttention:
    """The last ``window`` tokens, itself among them (Beltagy et al. 2020; Mistral).

    In a cycle with "full" it is GPT-3's "alternating dense and locally banded" pattern (Brown et al. 2020, section 2.1).
    """
    return SoftmaxAttention(config, rngs, Reach(window=at_least_one("window", window)), Options(**given))


def at_least_one(name: str, value: int) -> int:
    """The value.

    Raises:
      UserError: it is below 1.
    """
    if value < 1:
        raise UserError(f"{name} = {value}", where="config.model.attention", allowed="1 or more")
    return value
