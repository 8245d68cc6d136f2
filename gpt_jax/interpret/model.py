"""A model prepared for reading its activations: unrolled, with attention by the reference backend, over plain parameters."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from gpt_jax.config import ModelConfig
from gpt_jax.model import gpt, layout


def plain(config: ModelConfig) -> ModelConfig:
    """The configuration of the same function, as these functions need it; parameters are those of unrolled layers."""
    return dataclasses.replace(config, scan=False, remat="none", attend="reference", dropout=0.0)


def is_stacked(params: dict) -> bool:
    """Whether layers are stacked (``gpt_jax.model.layout``): an output projection then has the axes [L/p, N, H, D]."""
    block = params.get("blocks", {}).get("0", {})
    return jnp.ndim(block.get("attention", {}).get("out", {}).get("w", 0)) == 4


def unrolled(params: dict) -> dict:
    """Parameters in either layout as those of unrolled layers, a block a layer."""
    return layout.unstack(params, len(params["blocks"])) if is_stacked(params) else params


def merged(config: ModelConfig, params: dict) -> Any:
    """The model over parameters in either layout, whatever ``config.scan`` says."""
    return nnx.merge(gpt.graphdef(plain(config)), unrolled(params))


@functools.partial(jax.jit, static_argnums=0)
def logits(config: ModelConfig, params: dict, tokens_BT: jax.Array) -> jax.Array:
    """Scores of the next token, float32 [B, T, V], of parameters in the layout that ``config.scan`` says."""
    # A kernel for training may not take every length.
    config = dataclasses.replace(config, attend="auto", remat="none")
    return nnx.merge(gpt.graphdef(config), params)(tokens_BT)


def nats(logits_BTV: jax.Array, targets_BT: jax.Array) -> jax.Array:
    """-log p of every target, [B, T]."""
    logs_BTV = jax.nn.log_softmax(logits_BTV)
    return -jnp.take_along_axis(logs_BTV, targets_BT[..., None], axis=-1)[..., 0]
