"""What a row's text so far says about its next token: which tokens it has, how often, and where it repeats its end."""

import jax
import jax.numpy as jnp

from gpt_jax.sample.processors import NONE, Step


def written_BS(step: Step) -> jax.Array:
    """Where a row's text holds a token that was written after the prompt."""
    return step.real_BS & (jnp.arange(step.tokens_BS.shape[1]) >= step.prompt_B[:, None])


def counts(step: Step, where_BS: jax.Array, vocab: int) -> jax.Array:
    """How often each of ``vocab`` tokens stands at the places ``where_BS``, float32 [B, V]."""
    zeros_BV = jnp.zeros((len(where_BS), vocab))
    return jax.vmap(lambda zeros_V, ids_S, ones_S: zeros_V.at[ids_S].add(ones_S))(
        zeros_BV, step.tokens_BS, where_BS.astype(jnp.float32)
    )


def repeats(step: Step, most_B: jax.Array) -> jax.Array:
    """How many of the tokens before each place of a row's text are, in their order, its last ones as well, int32 [B, S].

    A token that stands behind n such tokens would, if it came next, be the end of a run of n + 1 tokens that the text has
    already.

    Args:
      most_B: where counting ends.
    """
    return (_compared if step.bits > 1 else _walked)(step, most_B)


def _walked(step: Step, most_B: jax.Array) -> jax.Array:
    """One token before all places at a time, as long as some place goes on: text seldom repeats many."""
    size = step.tokens_BS.shape[1]
    padded_BX = jnp.pad(step.tokens_BS, ((0, 0), (size, 0)), constant_values=NONE)

    def goes_on(state):
        return state[1].any()

    def further(state):
        i, alive_BS, found_BS = state
        before_BS = jax.lax.dynamic_slice_in_dim(padded_BX, size - 1 - i, size, axis=1)
        last_B1 = jnp.take_along_axis(padded_BX, (size + step.length_B - 1 - i)[:, None], axis=1)
        alive_BS &= (before_BS == last_B1) & (before_BS >= 0) & (i < most_B)[:, None]
        return i + 1, alive_BS, found_BS + alive_BS

    start = jnp.int32(0), step.real_BS, jnp.zeros_like(step.tokens_BS)
    return jax.lax.while_loop(goes_on, further, start)[2]


def _compared(step: Step, most_B: jax.Array) -> jax.Array:
    """All places with all last tokens at once, S^2 comparisons without a loop: for devices on which a loop that ends by its
    data waits for the host."""
    size = step.tokens_BS.shape[1]
    padded_BX = jnp.pad(step.tokens_BS, ((0, 0), (size, 0)), constant_values=NONE)
    back_S = jnp.arange(size)
    last_BS = jnp.take_along_axis(padded_BX, size + step.length_B[:, None] - 1 - back_S, axis=1)
    before_BSS = padded_BX[:, size + back_S[:, None] - 1 - back_S]
    equal_BSS = (before_BSS == last_BS[:, None]) & (before_BSS >= 0) & (back_S < most_B[:, None])[:, None]
    found_BS = jnp.where(equal_BSS, size, back_S).min(-1)
    return jnp.where(step.real_BS, found_BS, 0)
