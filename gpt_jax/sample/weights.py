"""The parameters as decoding wants them: layers unrolled, matrices in ``model.dtype`` and transposed.

A turn of the decoding loop multiplies B rows with every matrix of the model, so it is as fast as the matrices can be
read. XLA's CPU backend reads w_FD faster than w_DF for such thin products (docs/sampling.md has the figures).
"""

import functools
import math
from typing import Any

import jax
from flax import nnx

from gpt_jax.config import ModelConfig
from gpt_jax.model import gpt
from gpt_jax.model.linear import Linear

TABLES = (("embed", "tokens", "w"), ("readout", "w"))  # read in model.dtype, like the linear layers' matrices


class Turned:
    """A linear layer over w_FD: what ``Linear`` computes, from a matrix that is contracted along its last axis.

    Args:
      linear: a ``Linear`` that holds w_FD in place of w.
      shape: of w, (*inputs, *outputs).
    """

    def __init__(self, linear: Linear, shape: tuple[int, ...]):
        self.w_FD, self.bias = linear.w[...], linear.bias
        self.shape, self.rank_in = shape, linear.rank_in

    @property
    def w(self) -> jax.Array:
        return self.w_FD.T.reshape(self.shape)

    def __call__(self, x: jax.Array) -> jax.Array:
        """x [B, T, *inputs] -> [B, T, *outputs], in x's dtype."""
        x_BTD = x.reshape(*x.shape[:2], self.w_FD.shape[1])
        y = thin_product(x_BTD, self.w_FD.astype(x.dtype)).reshape(*x.shape[:2], *self.shape[self.rank_in :])
        return y if self.bias is None else y + self.bias[...].astype(x.dtype)


def thin_product(x_BTD: jax.Array, w_FD: jax.Array) -> jax.Array:
    """y_BTF = x_BTD w_FD', for few rows.

    The matrix is the left operand, as XLA's CPU backend is fastest that way; the barrier keeps the compiler from
    swapping the operands, and the rows are flattened because it would turn w for the sake of an axis of size 1.
    """
    b, t, d = x_BTD.shape
    y_FR = jax.lax.dot_general(w_FD, x_BTD.reshape(b * t, d), (((1,), (1,)), ((), ())))
    return jax.lax.optimization_barrier(y_FR).T.reshape(b, t, -1)


def prepare(config: ModelConfig, params: dict) -> dict:
    """Copies of the linear layers' matrices as w_FD, and of the embedding, in ``config.dtype``; the rest as it is.

    Args:
      config, params: of an unrolled model.
    """
    linears = _linears(config)

    def change(path, leaf):
        names = tuple(str(entry.key) for entry in path)
        if names[:-1] in linears and names[-1] == "w":
            return _transposed(leaf, linears[names[:-1]][1], config.dtype)
        return leaf.astype(config.dtype) if names in TABLES else leaf

    return jax.tree.map_with_path(change, params)


def merge(config: ModelConfig, weights: dict) -> nnx.Module:
    """The unrolled model over what ``prepare`` returned."""
    model = nnx.merge(gpt.graphdef(config), weights)
    for path, (shape, _) in _linears(config).items():
        parent = functools.reduce(getattr, path[:-1], model)
        setattr(parent, path[-1], Turned(getattr(parent, path[-1]), shape))
    return model


@functools.lru_cache
def _linears(config: ModelConfig) -> dict[tuple[str, ...], tuple[tuple[int, ...], int]]:
    """The model's linear layers by path: the shape of w, and how many of its axes are inputs."""
    model: Any = nnx.eval_shape(lambda: gpt.GPT(config, nnx.Rngs(params=0)))
    modules = [(path, module) for path, module in nnx.iter_modules(model) if isinstance(module, Linear)]
    return {tuple(map(str, path)): (module.w.shape, module.rank_in) for path, module in modules}


@functools.partial(jax.jit, static_argnums=(1, 2))
def _transposed(w: jax.Array, rank_in: int, dtype: str) -> jax.Array:
    return w.reshape(math.prod(w.shape[:rank_in]), -1).T.astype(dtype)
