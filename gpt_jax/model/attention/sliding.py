"""Attention to the last ``window`` tokens."""

from flax import nnx

from gpt_jax.config import ModelConfig
from gpt_jax.limits import Count
from gpt_jax.model.attend import Reach
from gpt_jax.model.attention.full import Options, SoftmaxAttention
from gpt_jax.registry import options, register


@register("model.attention", "sliding", examples=("sliding(window=5)",), typical="sliding(window=512)")
@options(Options)
def sliding(config: ModelConfig, rngs: nnx.Rngs, *, window: Count, **given) -> SoftmaxAttention:
    """The last ``window`` tokens, itself among them (Beltagy et al. 2020; Mistral).

    In a cycle with "full" it is GPT-3's "alternating dense and locally banded" pattern (Brown et al. 2020, section 2.1).
    """
    return SoftmaxAttention(config, rngs, Reach(window=window), Options(**given))
