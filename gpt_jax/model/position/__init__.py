"""How a token learns where it stands: by what is added to its embedding, by turning queries and keys, or by a bias."""

import jax
import jax.numpy as jnp
from flax import nnx

from gpt_jax.model.where import Tokens


class Position(nnx.Module):
    """What a scheme may do, in three places; one that says nothing does nothing there.

    A subclass takes (config, rngs) and options of its own, and overrides what it needs. One object serves all layers.
    """

    def embed(self, x_BTD: jax.Array, positions_BT: jax.Array | None) -> jax.Array:
        """The embedded tokens, told their positions (None: 0, 1, 2, …)."""
        return x_BTD

    def rotate(self, x_BNTH: jax.Array, positions_BT: jax.Array) -> jax.Array:
        """Queries or keys, turned by their positions, [B or 1, T]."""
        return x_BNTH

    def bias(self, queries: Tokens, keys: Tokens) -> jax.Array:
        """What is added to the scores, [B or 1, N, T, S] (or axes of size 1), as a function of positions."""
        return jnp.zeros((1, 1, 1, 1))


def back(queries: Tokens, keys: Tokens) -> jax.Array:
    """How far each key lies before each query, [B or 1, T, S]; 0 for later ones, which are not seen anyway."""
    return (queries.position_BT[:, :, None] - keys.position_BT[:, None, :]).clip(0)
