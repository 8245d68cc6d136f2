"""From the last hidden state to logits."""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx

from gpt_jax.config import ModelConfig
from gpt_jax.model import init
from gpt_jax.model.attend import capped, wide
from gpt_jax.model.linear import matmul

NEVER = -1e30  # a logit of no probability, of which nothing makes a nan as of an infinite one


class Readout(nnx.Module):
    """The readout: w [D, V] where it is not tied to the embedding, and a bias [V] where ``model.bias`` has one."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
        shape = (config.width, config.vocab)
        self.w = None if config.tied else nnx.Param(init.normal(config, "readout", rngs, shape))
        self.bias = nnx.Param(jnp.zeros(config.vocab)) if config.biased("readout") else None


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Projection:
    """logits = c * tanh((x w + bias) / c), or x w + bias where ``softcap`` c is 0.

    Args:
      ids: of the vocabulary; those that w and bias have beyond it, where a mesh fills them up, are never drawn. None: all.
    """

    w_DV: jax.Array
    bias_V: jax.Array | None = None
    softcap: float = dataclasses.field(default=0.0, metadata={"static": True})
    ids: int | None = dataclasses.field(default=None, metadata={"static": True})

    def finish(self, logits: jax.Array) -> jax.Array:
        """Logits from the product x w, [..., V]."""
        if self.bias_V is not None:
            logits = logits + self.bias_V.astype(logits.dtype)
        logits = capped(logits, self.softcap)
        if self.ids is None or self.ids == logits.shape[-1]:
            return logits
        return jnp.where(jnp.arange(logits.shape[-1]) < self.ids, logits, NEVER)


def logits_of(x_BTD: jax.Array, projection: Projection) -> jax.Array:
    """logits_BTV, float32 or better."""
    return projection.finish(_wide_product(x_BTD, projection.w_DV.astype(x_BTD.dtype)))


@jax.custom_vjp
def _wide_product(x_BTD, w_DV):
    """x w in float32 or better. Its gradients are products in x's dtype: of a float32 and a bfloat16 operand XLA makes a
    product in float32, at a fraction of the rate."""
    return matmul(x_BTD, w_DV, wide(x_BTD.dtype))


def _wide_product_forward(x_BTD, w_DV):
    return _wide_product(x_BTD, w_DV), (x_BTD, w_DV)


def _wide_product_backward(operands, g_BTV):
    _, pull = jax.vjp(matmul, *operands)
    return pull(g_BTV.astype(operands[0].dtype))


_wide_product.defvjp(_wide_product_forward, _wide_product_backward)
