"""The linear layer: a matrix, perhaps a bias, and a product whose derivative suits CPUs too."""

import math

import jax
import jax.numpy as jnp
from flax import nnx

from gpt_jax.config import ModelConfig
from gpt_jax.model import init


@jax.custom_vjp
def matmul(x_BTD: jax.Array, w_DF: jax.Array) -> jax.Array:
    """y_BTF = x_BTD w_DF.

    The derivative is the textbook one. It is spelled out because XLA's CPU backend copies the transposed left operand
    of a weight gradient: the narrower of the two operands is the one to transpose (docs/performance.md has the figures).
    """
    return jnp.einsum("BTD,DF->BTF", x_BTD, w_DF)


def _matmul_forward(x_BTD, w_DF):
    return matmul(x_BTD, w_DF), (x_BTD, w_DF)


def _matmul_backward(saved, g_BTF):
    x_BTD, w_DF = saved
    dx_BTD = jnp.einsum("BTF,DF->BTD", g_BTF, w_DF)
    if x_BTD.shape[-1] > g_BTF.shape[-1]:
        dw_DF = jnp.einsum("BTF,BTD->FD", g_BTF, x_BTD).T
    else:
        dw_DF = jnp.einsum("BTD,BTF->DF", x_BTD, g_BTF)
    return dx_BTD, dw_DF


matmul.defvjp(_matmul_forward, _matmul_backward)


class Linear(nnx.Module):
    """y = x w + bias, with named input and output axes: w has shape (*inputs, *outputs).

    Args:
      inputs, outputs: axis sizes, for example (D,) and (N, H); flattened around the product.
      role: how ``config.init`` fills w ("linear", or "residual" where the output joins the residual stream).
    """

    def __init__(self, inputs: tuple, outputs: tuple, config: ModelConfig, rngs: nnx.Rngs, role: str = "linear"):
        self.w = nnx.Param(init.normal(config, role, rngs, (*inputs, *outputs)))
        self.bias = nnx.Param(jnp.zeros(outputs)) if config.bias else None
        self.rank_in = len(inputs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """x [B, T, *inputs] -> [B, T, *outputs], in x's dtype."""
        w = self.w[...]
        inputs, outputs = w.shape[: self.rank_in], w.shape[self.rank_in :]
        w_DF = w.reshape(math.prod(inputs), math.prod(outputs)).astype(x.dtype)
        y = matmul(x.reshape(*x.shape[:2], w_DF.shape[0]), w_DF).reshape(*x.shape[:2], *outputs)
        return y if self.bias is None else y + self.bias[...].astype(x.dtype)
