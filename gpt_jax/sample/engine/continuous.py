"""The compiled programs of a batch whose rows take requests at any time (continuous batching, Yu et al. 2022, "Orca").

As ``turns``, but every row has turns of its own, which begin when its prompt is read: what a row computes, and in which
order, is the same whenever it begins and whatever stands beside it. A prompt is read alone, for the same reason.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from gpt_jax.sample.engine import turns
from gpt_jax.sample.engine.program import Program, Sizes
from gpt_jax.sample.engine.weights import merge
from gpt_jax.sample.engine.writing import write
from gpt_jax.sample.platform import Platform


@functools.cache
def compiled(platform: Platform) -> tuple[Callable, Callable, Callable]:
    """Makes a batch without requests, puts one into a row, writes tokens. The second compiles once for each ``Sizes``."""
    options = platform.compiler_options(True)
    static = ("program", "sizes")
    empty = jax.jit(_empty, static_argnames=(*static, "rows"), compiler_options=options)
    join = jax.jit(_join, static_argnames=static, donate_argnames="state", compiler_options=options)
    advance = jax.jit(_advance, static_argnames="program", donate_argnames="state", compiler_options=options)
    return empty, join, advance


def _empty(program: Program, weights: Any, tokens_1P, given: dict, sizes: Sizes, rows: int) -> dict:
    """The state of ``rows`` rows, none of which goes on; ``given`` is a request for no token."""
    one = _begin(program, weights, tokens_1P, given, sizes)
    return jax.tree.map(lambda leaf: leaf[jnp.zeros(rows, jnp.int32)], one)


def _join(program: Program, weights: Any, state: dict, tokens_1P, given: dict, at, sizes: Sizes) -> tuple[dict, dict]:
    """Puts a request into the row ``at`` and draws its first token."""
    new = _begin(program, weights, tokens_1P, given, sizes)
    state = turns.replaced(state, new, jnp.asarray(at)[None])
    return state, _seen(state)


def _advance(program: Program, weights: Any, state: dict, limit, least) -> tuple[dict, dict]:
    """Writes up to ``limit`` tokens in each row that goes on, until no more than ``least`` rows do; as many as the platform
    writes at once, where that is a fixed number."""
    left = jnp.asarray(limit, jnp.int32)

    def turn(state):
        model: Any = merge(program.config, weights, program.platform.product)
        last_B1 = state["length_B"][:, None] - 1
        tokens_B1 = jnp.take_along_axis(state["tokens_BS"], last_B1, axis=1)
        x_B1D, cache = model.extend(tokens_B1, state["cache"], state["turn_B"], last_B1)
        written = write(program, model, {**state, "cache": cache}, x_B1D)
        turn_B = state["turn_B"] + (written["count_B"] - state["count_B"])
        return {**written, "turn_B": turn_B, "left": state["left"] - 1}

    def goes_on(state):
        return (state["left"] > 0) & (state["open_B"].sum() > least)

    state = program.platform.repeat(turn, {**state, "left": left}, goes_on)
    del state["left"]
    return state, _seen(state)


def _begin(program: Program, weights: Any, tokens_1P, given: dict, sizes: Sizes) -> dict:
    state = turns.begin(program, weights, tokens_1P, given, sizes, 0)
    text = sizes.slots + 1  # as long as any, with padding or without
    return {**state, "tokens_BS": state["tokens_BS"][:, :text], "turn_B": jnp.full(1, sizes.width, jnp.int32)}


def _seen(state: dict) -> dict:
    return {name: state[name] for name in turns.SEEN}
