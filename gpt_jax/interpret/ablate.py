"""Ablation of heads: the loss without each."""

import jax
import jax.numpy as jnp

from gpt_jax import bars
from gpt_jax.config import ModelConfig
from gpt_jax.errors import UserError
from gpt_jax.interpret.residual_stream import token_losses


def without_head(params: dict, layer: int, head: int) -> dict:
    """Parameters of unrolled layers, one head of which adds nothing: the rows of its output projection are 0.

    Raises:
      UserError: there is no such layer or head.
    """
    blocks = params["blocks"]
    w_NHD = blocks.get(str(layer), {}).get("attention", {}).get("out", {}).get("w")
    if w_NHD is None or not 0 <= head < len(w_NHD):
        heads = "" if w_NHD is None else f", heads 0 to {len(w_NHD) - 1}"
        raise UserError(f"there is no head {head} in layer {layer}", allowed=f"layers 0 to {len(blocks) - 1}{heads}")
    attention = blocks[str(layer)]["attention"]
    changed = {**attention, "out": {**attention["out"], "w": w_NHD.at[head].set(0)}}
    return {**params, "blocks": {**blocks, str(layer): {**blocks[str(layer)], "attention": changed}}}


def head_effects(config: ModelConfig, params: dict, tokens_BT, targets_BT, weights_BT) -> jax.Array:
    """Increase of the loss (nats per counted token) without each head, [L, N]."""

    def mean_loss(params: dict) -> jax.Array:
        losses_BT = token_losses(config, params, tokens_BT, targets_BT)
        return (losses_BT * weights_BT).sum() / weights_BT.sum()

    whole = mean_loss(params)
    places = [(layer, head) for layer in range(config.layers) for head in range(config.heads)]
    bar = bars.bar(places, desc="ablating heads", leave=False)
    effects = jnp.array([mean_loss(without_head(params, *place)) - whole for place in bar])
    return effects.reshape(config.layers, config.heads)
