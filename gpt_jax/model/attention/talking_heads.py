"""Talking-heads attention."""

from flax import nnx

from gpt_jax.config import ModelConfig
from gpt_jax.model.attend import Reach
from gpt_jax.model.attention.full import Options, SoftmaxAttention
from gpt_jax.registry import options, register


@register("model.attention", "talking_heads")
@options(Options)
def talking_heads(config: ModelConfig, rngs: nnx.Rngs, **given) -> SoftmaxAttention:
    """Heads exchange scores before the softmax and weights after it (Shazeer et al. 2020): ``full(mixing=True)``."""
    return SoftmaxAttention(config, rngs, Reach(), Options(**{"mixing": True, **given}))
