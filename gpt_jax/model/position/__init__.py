"""Position schemes: vectors added to the embedding, rotations of queries and keys, or biases on the scores."""

from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from gpt_jax.model.where import Tokens


class Position(nnx.Module):
    """What a scheme may do, in three places; a method that is not overridden does nothing.

    A subclass takes (config, rngs) and options of its own, and overrides what it needs: a ``bias`` that
    is overridden is added to the scores. All layers share one object.

    Attributes:
      bounded: whether there are positions up to ``model.context`` alone.
    """

    bounded: ClassVar[bool] = False

    def embed(self, x_BTD: jax.Array, positions_BT: jax.Array | None) -> jax.Array:
        """The embedded tokens with their positions (None: 0, 1, 2, …)."""
        return x_BTD

    def rotate(self, x_BNTH: jax.Array, positions_BT: jax.Array) -> jax.Array:
        """Queries or keys, rotated by their positions, [B or 1, T]."""
        return x_BNTH

    def bias(self, queries: Tokens, keys: Tokens) -> jax.Array:
        """What is added to the scores, [B or 1, N, T, S] (or axes of size 1), as a function of positions."""
        return jnp.zeros((1, 1, 1, 1))


def back(queries: Tokens, keys: Tokens) -> jax.Array:
    """How far each key lies before each query, [B or 1, T, S]; 0 for later ones, which are not seen anyway."""
    return (queries.position_BT[:, :, None] - keys.position_BT[:, None, :]).clip(0)
