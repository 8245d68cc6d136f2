"""Prompts that are padded on the left, read into a cache with room for what follows."""

import jax
import jax.numpy as jnp
from flax import nnx

from gpt_jax.sample.engine.program import Sizes
from gpt_jax.sample.engine.reading import positions_of


def text_of(padded_BPX, lengths_B, sizes: Sizes) -> jax.Array:
    """Tokens, or what else there is of each, from those of the first tokens on and with 0 beyond the last, [B, S, …]."""
    beyond = [(0, 0), (0, sizes.room), *[(0, 0)] * (padded_BPX.ndim - 2)]
    there_BP = jnp.arange(sizes.width) < lengths_B[:, None]
    turned_BPX = jax.vmap(lambda row, shift: jnp.roll(row, shift, axis=0))(padded_BPX, lengths_B - sizes.width)
    return jnp.pad(jnp.where(there_BP.reshape(*there_BP.shape, *[1] * (padded_BPX.ndim - 2)), turned_BPX, 0), beyond)


def read_whole(model: nnx.Module, tokens_BP, lengths_B, sizes: Sizes) -> tuple[jax.Array, dict]:
    """The hidden states of all tokens, and the cache with them, read at once."""
    cache = model.init_cache(len(tokens_BP), sizes.text, sizes.width)
    return model.extend(tokens_BP, cache, 0, positions_of(tokens_BP, lengths_B))
