"""The linear layer: a matrix, perhaps a bias, and a product whose derivative suits CPUs too."""

import functools
import math

import jax
import jax.numpy as jnp
from flax import nnx

from gpt_jax.backend import target_platform
from gpt_jax.config import ModelConfig
from gpt_jax.model import init


def matmul(x_BTD: jax.Array, w_DF: jax.Array, dtype: jnp.dtype | None = None) -> jax.Array:
    """y_BTF = x_BTD w_DF, as one product of matrices; in ``dtype``, or that of the operands.

    Batch and time are one axis here because XLA's CPU backend folds the transpose of a matrix into the weight gradient's
    product, but copies the transpose of anything of higher rank (docs/performance.md has the figures).
    """
    b, t, d = x_BTD.shape
    if _shared():
        return jnp.matmul(x_BTD, w_DF, preferred_element_type=dtype)
    y_XF = jnp.matmul(x_BTD.reshape(b * t, d), w_DF, preferred_element_type=dtype)
    return y_XF.reshape(b, t, w_DF.shape[1])


def _shared() -> bool:
    """Whether devices share the work: the tokens of a row may be split then as rows are, which one axis cannot be."""
    return jax.sharding.get_abstract_mesh().size > 1


def spread(v: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """v broadcast to ``shape``, which ends in v's own.

    Its derivative is a sum over all tokens. On a CPU that is taken as a product with ones, which XLA computes several times
    faster than a sum over leading axes (docs/performance.md). On a GPU only that of a matrix is: for a sum over 32 rows or
    more XLA would lay out the activations of the whole model with the batch as their last axis.
    """
    if v.ndim == 1 and (_shared() or target_platform() != "cpu"):
        return jnp.broadcast_to(v, shape)
    return _spread(shape, v.ndim, v)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _spread(shape, rank, v):
    return jnp.broadcast_to(v, shape)


def _spread_forward(shape, rank, v):
    return jnp.broadcast_to(v, shape), None


def _spread_backward(shape, rank, _, g):
    own = shape[len(shape) - rank :]
    g_XF = g.reshape(-1, math.prod(own))
    return ((jnp.ones(len(g_XF), g.dtype) @ g_XF).reshape(own),)


_spread.defvjp(_spread_forward, _spread_backward)


class Linear(nnx.Module):
    """y = x w + bias, with named input and output axes: w has shape (*inputs, *outputs).

    Args:
      inputs, outputs: axis sizes, for example (D,) and (N, H); flattened around the product.
      place: "qkv", "out" or "mlp": ``model.bias`` says which of them have one.
      role: how ``model.init`` fills w ("linear", or "residual" where the output joins the residual stream).
    """

    def __init__(
        self, inputs: tuple, outputs: tuple, config: ModelConfig, rngs: nnx.Rngs, place: str, role: str = "linear"
    ):
        self.w = nnx.Param(init.normal(config, role, rngs, (*inputs, *outputs), len(inputs)))
        self.bias = nnx.Param(jnp.zeros(outputs)) if config.biased(place) else None
        self.rank_in = len(inputs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """x [B, T, *inputs] -> [B, T, *outputs], in x's dtype."""
        w = self.w[...]
        inputs, outputs = w.shape[: self.rank_in], w.shape[self.rank_in :]
        w_DF = w.reshape(math.prod(inputs), math.prod(outputs)).astype(x.dtype)
        y_BTF = matmul(x.reshape(*x.shape[:2], w_DF.shape[0]), w_DF)
        if self.bias is not None:  # as a vector over one axis, which a GPU's product adds by itself
            y_BTF += spread(self.bias[...].reshape(-1).astype(x.dtype), y_BTF.shape)
        return y_BTF.reshape(*x.shape[:2], *outputs)


def heads_in_and_out(config: ModelConfig, rngs: nnx.Rngs) -> tuple[Linear, Linear, Linear, Linear]:
    """The usual projections of attention: q [D, N, H], k and v [D, K, H], and out [N, H, D]."""
    heads, kv = (config.heads, config.head_dim), (config.kv_heads, config.head_dim)
    q = Linear((config.width,), heads, config, rngs, "qkv", "query")
    k = Linear((config.width,), kv, config, rngs, "qkv", "query")
    v = Linear((config.width,), kv, config, rngs, "qkv")
    return q, k, v, Linear(heads, (config.width,), config, rngs, "out", "residual")
