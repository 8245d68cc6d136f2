"""Attention within chunks of the text."""

from flax import nnx

from gpt_jax.config import ModelConfig
from gpt_jax.limits import Count
from gpt_jax.model.attend import Reach
from gpt_jax.model.attention.full import Options, SoftmaxAttention
from gpt_jax.registry import options, register


@register("model.attention", "chunked", examples=("chunked(size=6)",), typical="chunked(size=512)")
@options(Options)
def chunked(config: ModelConfig, rngs: nnx.Rngs, *, size: Count, **given) -> SoftmaxAttention:
    """The earlier tokens of the same ``size`` positions, counted from the document's beginning (Llama 4's local layers)."""
    return SoftmaxAttention(config, rngs, Reach(chunk=size), Options(**given))
