"""From scores to a token."""

import jax
import jax.numpy as jnp

BLOCK = 256  # tokens; a draw first picks one of V / 256 blocks, then a token in it


def draw(logits_BV, keys_B) -> jax.Array:
    """A token of each row with the probabilities softmax(logits), int32 [B].

    Inverts the cumulative distribution in two steps with a uniform number each: one float32 would be too coarse for the
    tail of a large vocabulary, and noise for every token (the Gumbel trick) takes as long as reading out the logits.
    """
    weights_BV = jnp.exp(logits_BV - logits_BV.max(-1, keepdims=True))
    padding = -weights_BV.shape[1] % BLOCK
    blocks_BCV = jnp.pad(weights_BV, ((0, 0), (0, padding))).reshape(len(weights_BV), -1, BLOCK)

    def one(key, blocks_CV):
        uniform = jax.random.uniform(key, (2,))
        block = _invert(blocks_CV.sum(1), uniform[0])
        return block * BLOCK + _invert(blocks_CV[block], uniform[1])

    return jax.vmap(one)(keys_B, blocks_BCV)


def _invert(weights_C: jax.Array, uniform: jax.Array) -> jax.Array:
    """The first index whose cumulative share exceeds ``uniform`` (below 1), among those of a weight above 0."""
    cumulative_C = jnp.cumsum(weights_C)
    possible_C = weights_C > 0
    reached_C = possible_C & (cumulative_C > uniform * cumulative_C[-1])
    last = len(weights_C) - 1 - jnp.argmax(possible_C[::-1])  # where rounding leaves nothing above
    return jnp.where(reached_C.any(), jnp.argmax(reached_C), last).astype(jnp.int32)
