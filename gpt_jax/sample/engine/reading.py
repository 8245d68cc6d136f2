"""Prompts are read into caches, in parts, and read anew where a text has filled the context."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from gpt_jax.model.cache import NOTHING, quantised
from gpt_jax.sample.engine import context
from gpt_jax.sample.engine.program import Program, Sizes


def positions_of(tokens_BP, lengths_B, skipped_B: Any = 0) -> jax.Array:
    """Of the tokens of prompts that are padded on the left, [B, P]: from 0 on, after those that are not read."""
    width = tokens_BP.shape[1]
    return jnp.maximum(jnp.arange(width) - (width - lengths_B + skipped_B)[:, None], NOTHING)


def empty(program: Program, model: nnx.Module, batch: int, sizes: Sizes, ahead: int = 0) -> dict:
    """The cache of rows that have read nothing. It has slots for all of a text but its last token, which is not read, or
    for what is attended to of it.

    Args:
      ahead: tokens beyond the text that are read at once with its last one; see ``begin``.
    """
    chunk = max(min(max(sizes.width, sizes.most, program.span.restart), program.platform.chunk), ahead + 1)
    text = sizes.slots or (sizes.text + ahead if ahead else sizes.text - 1)
    seen = program.span.window + chunk - 1 if program.span.window else program.span.restart or text
    cache = model.init_cache(batch, min(seen, text), chunk)
    return quantised(cache) if program.int8_cache else cache


def restarted(program: Program, model: nnx.Module, state: dict) -> dict:
    """Rows that go on and have filled the context lose its front; what is left is read anew, a row at a time."""
    lost = context.cut(program.span.restart)
    width = program.span.restart - lost  # the last token is read with the others of its turn

    def full_B(state):
        return state["open_B"] & (state["length_B"] - state["first_B"] > program.span.restart)

    def restart(state):
        row = jnp.argmax(full_B(state))
        first_B = state["first_B"].at[row].add(lost)
        cache = jax.tree.map(lambda leaf: jnp.zeros_like(leaf[:1]), state["cache"])
        cache["held"] = jax.tree.map(lambda held_1S: held_1S + NOTHING, cache["held"])
        if width:
            tokens_1W = jax.lax.dynamic_slice(state["tokens_BS"], (row, first_B[row]), (1, width))
            _, cache = read(program, model, tokens_1W, jnp.arange(width)[None], cache, state["turn"] - width)
        whole = jax.tree.map(lambda old, new: old.at[row].set(new[0]), state["cache"], cache)
        return {**state, "first_B": first_B, "cache": whole}

    return jax.lax.while_loop(lambda state: full_B(state).any(), restart, state)


def read(program: Program, model: nnx.Module, tokens_BP, positions_BP, cache: dict, start) -> tuple[jax.Array, dict]:
    """The last hidden states of a prompt, read in parts of up to ``Platform.chunk`` tokens, and the cache with all of it."""
    width, chunk = tokens_BP.shape[1], program.platform.chunk
    first = width % chunk or min(width, chunk)
    x_BTD, cache = model.extend(tokens_BP[:, :first], cache, start, positions_BP[:, :first], program.span.window)

    def part(i, carry):
        at = first + i * chunk
        tokens_BC, positions_BC = (
            jax.lax.dynamic_slice_in_dim(a, at, chunk, axis=1) for a in (tokens_BP, positions_BP)
        )
        x_BCD, cache = model.extend(tokens_BC, carry[1], start + at, positions_BC, program.span.window)
        return x_BCD[:, -1:], cache

    begun = (x_BTD[:, -1:], cache)
    return jax.lax.fori_loop(0, (width - first) // chunk, part, begun) if width > first else begun
