"""Heads: the loss without each, and what follows when their outputs are edited, or are those of another text."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from gpt_jax import bars
from gpt_jax.config import ModelConfig
from gpt_jax.errors import UserError
from gpt_jax.interpret.model import is_stacked, merged
from gpt_jax.interpret.residual_stream import Pair, token_losses

Edit = Callable[[int, jax.Array], jax.Array]  # (layer, y_BTNH) -> y_BTNH


def without_head(params: dict, layer: int, head: int) -> dict:
    """Parameters, in the layout that they have, one head of which adds nothing: the rows of its output projection are 0.

    Raises:
      UserError: there is no such layer or head.
    """
    blocks, stacked = params["blocks"], is_stacked(params)
    row, number = divmod(layer, len(blocks))
    attention = blocks[str(number)].get("attention", {})
    w = attention.get("out", {}).get("w")
    layers = len(blocks) * (len(w) if stacked else 1)
    heads = 0 if w is None else w.shape[-3]
    if not (0 <= layer < layers and 0 <= head < heads):
        raise UserError(
            f"there is no head {head} in layer {layer}",
            allowed=f"layers 0 to {layers - 1}" + (f", heads 0 to {heads - 1}" if heads else ""),
        )
    changed = {**attention, "out": {**attention["out"], "w": w.at[(row, head) if stacked else head].set(0)}}
    return {**params, "blocks": {**blocks, str(number): {**blocks[str(number)], "attention": changed}}}


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


def heads_edited(config: ModelConfig, params: dict, tokens_BT: jax.Array, edit: Edit) -> jax.Array:
    """Logits [B, T, V] where heads put out what ``edit`` makes of it.

    Args:
      edit: takes a layer, from 0, and what its heads put out before they are projected to the stream, y_BTNH; gives what
        takes its place.
    """
    model = merged(config, params)
    for i in range(config.layers):
        attention = model.blocks[str(i)].attention
        attention.out = lambda y_BTNH, i=i, out=attention.out: out(edit(i, y_BTNH))
    return model(tokens_BT)


@functools.partial(jax.jit, static_argnums=0)
def _outputs(config: ModelConfig, params: dict, tokens_BT: jax.Array) -> jax.Array:
    """What the heads put out, [L, B, T, N, H]."""
    seen: list[jax.Array] = []

    def keep(layer: int, y_BTNH: jax.Array) -> jax.Array:
        seen.append(y_BTNH)
        return y_BTNH

    heads_edited(config, params, tokens_BT, keep)
    return jnp.stack(seen)


@functools.partial(jax.jit, static_argnums=0)
def _patched(config: ModelConfig, params: dict, tokens_BT, donor_LBTNH: jax.Array, layer, head) -> jax.Array:
    """Logits [B, T, V] where one head puts out, at every position, what it does in another text."""

    def replace(i: int, y_BTNH: jax.Array) -> jax.Array:
        at_N1 = (jnp.arange(y_BTNH.shape[2]) == head)[:, None]
        return jnp.where(at_N1 & (layer == i), donor_LBTNH[i], y_BTNH)

    return heads_edited(config, params, tokens_BT, replace)


def head_patching(config: ModelConfig, params: dict, tokens_1T, donor_1T, answer: int, rival: int) -> jax.Array:
    """How far each head carries the answer over, [L, N], where it puts out at every position what it does in the donor's
    text. Arguments, units and errors as in ``residual_stream.patching``."""
    pair = Pair.of(config, tokens_1T, donor_1T, answer, rival)
    donor_LBTNH = _outputs(config, params, pair.donor_1T)
    places = [(layer, head) for layer in range(config.layers) for head in range(config.heads)]
    patched = (_patched(config, params, pair.tokens_1T, donor_LBTNH, *place) for place in places)
    return pair.carried(config, params, patched).reshape(config.layers, config.heads)
