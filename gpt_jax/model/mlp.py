"""The position-wise feed-forward networks."""

import math

import jax
import jax.numpy as jnp
from flax import nnx

from gpt_jax.config import ModelConfig
from gpt_jax.model.linear import Linear
from gpt_jax.registry import register


@jax.custom_jvp
def gelu(x: jax.Array) -> jax.Array:
    """GELU in the tanh form that GPT-2 uses (Hendrycks & Gimpel 2016, section 2).

    The derivative recomputes tanh from x, so that only x is kept for the backward pass.
    """
    return 0.5 * x * (1 + jnp.tanh(_gelu_inner(x)))


def _gelu_inner(x):
    return math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)


@gelu.defjvp
def _gelu_jvp(primals, tangents):
    (x,), (dx,) = primals, tangents
    tanh = jnp.tanh(_gelu_inner(x))
    inner_slope = math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * x**2)
    return 0.5 * x * (1 + tanh), (0.5 * (1 + tanh) + 0.5 * x * (1 - tanh**2) * inner_slope) * dx


@register("model.mlp", "gelu")
class GeluMLP(nnx.Module):
    """down(gelu(up(x))), GPT-2's."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
        self.up = Linear((config.width,), (config.mlp_width,), config, rngs)
        self.down = Linear((config.mlp_width,), (config.width,), config, rngs, "residual")

    def __call__(self, x_BTD: jax.Array) -> jax.Array:
        return self.down(gelu(self.up(x_BTD)))
