"""Normalisations of the residual stream, computed in float32."""

import jax
import jax.numpy as jnp
from flax import nnx

from gpt_jax.config import ModelConfig
from gpt_jax.registry import register


@register("model.norm", "layernorm")
class LayerNorm(nnx.Module):
    """(x - mean) / sqrt(variance + eps) * scale + bias over the last axis, per token (Ba et al. 2016)."""

    def __init__(self, width: int, config: ModelConfig, *, eps: float = 1e-5):
        self.scale = nnx.Param(jnp.ones(width))
        self.bias = nnx.Param(jnp.zeros(width)) if config.bias else None
        self.eps = eps

    def __call__(self, x_BTD: jax.Array) -> jax.Array:
        x32_BTD = x_BTD.astype(jnp.promote_types(x_BTD.dtype, jnp.float32))
        centred_BTD = x32_BTD - x32_BTD.mean(-1, keepdims=True)
        variance_BT1 = jnp.square(centred_BTD).mean(-1, keepdims=True)
        y_BTD = centred_BTD * jax.lax.rsqrt(variance_BT1 + self.eps) * self.scale[...]
        return (y_BTD if self.bias is None else y_BTD + self.bias[...]).astype(x_BTD.dtype)
