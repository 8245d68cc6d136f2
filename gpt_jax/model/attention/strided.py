"""The Sparse Transformer's strided attention."""

from flax import nnx

from gpt_jax.config import ModelConfig
from gpt_jax.limits import Count
from gpt_jax.model.attend import Reach
from gpt_jax.model.attention.full import Options, SoftmaxAttention
from gpt_jax.registry import options, register


@register("model.attention", "strided", examples=("strided(stride=4)",), typical="strided(stride=32)")
@options(Options)
def strided(config: ModelConfig, rngs: nnx.Rngs, *, stride: Count, **given) -> SoftmaxAttention:
    """The last ``stride`` tokens and every ``stride``-th before them, for all heads (Child et al. 2019, section 4.3,
    the two patterns merged as in its section 5.2)."""
    return SoftmaxAttention(config, rngs, Reach(stride=stride), Options(**given))
