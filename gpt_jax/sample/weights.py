"""The parameters as decoding wants them: layers unrolled, matrices in ``model.dtype`` and turned.

A turn of the decoding loop multiplies B rows with every matrix of the model, so it is as fast as the matrices can be
read. XLA's CPU backend reads w_FD faster than w_DF for such thin products (docs/sampling.md has the figures).
"""

import dataclasses
import functools
import math
from typing import Any

import jax
from flax import nnx

from gpt_jax.config import ModelConfig
from gpt_jax.model import gpt, layout
from gpt_jax.model.linear import Linear


def prepare(config: ModelConfig, params: dict) -> dict:
    """Copies of the linear layers' matrices as w_FD, and of the embedding, in ``config.dtype``; the rest as it is.

    Args:
      params: in the layout that ``config.scan`` says.
    """
    if config.scan:
        params = layout.unstack(params, len(config.attentions))
    inputs = _input_ranks(dataclasses.replace(config, scan=False))

    def change(path, leaf):
        names = _names(path)
        if names in inputs:
            return _turned(leaf, inputs[names], config.dtype)
        return leaf.astype(config.dtype) if names in CAST else leaf

    return jax.tree.map_with_path(change, params)


def merge(config: ModelConfig, weights: dict) -> nnx.Module:
    """The unrolled model over prepared weights. Only to be called under ``jax.jit``, where turning back costs nothing."""
    shapes = jax.eval_shape(functools.partial(gpt.init, config), jax.random.key(0))
    inputs = _input_ranks(config)

    def change(path, leaf, shape):
        return leaf.T.reshape(shape.shape) if _names(path) in inputs else leaf

    return nnx.merge(gpt.graphdef(config), jax.tree.map_with_path(change, weights, shapes))


CAST = (("embed", "tokens", "w"), ("readout", "w"))


@functools.lru_cache
def _input_ranks(config: ModelConfig) -> dict[tuple, int]:
    """How many leading axes of each linear layer's w are inputs, by the path of w."""
    model = nnx.eval_shape(lambda: gpt.GPT(config, nnx.Rngs(params=0)))
    return {(*map(str, path), "w"): m.rank_in for path, m in nnx.iter_modules(model) if isinstance(m, Linear)}


@functools.partial(jax.jit, static_argnums=(1, 2))
def _turned(w: jax.Array, rank_in: int, dtype: str) -> jax.Array:
    return w.reshape(math.prod(w.shape[:rank_in]), -1).T.astype(dtype)


def _names(path: Any) -> tuple[str, ...]:
    return tuple(str(entry.key) for entry in path)
