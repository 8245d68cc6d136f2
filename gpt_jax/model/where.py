"""What a layer is told about its tokens besides their activations."""

import dataclasses

import jax
import jax.numpy as jnp


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Where:
    """Where the T tokens at hand stand, whom they may see, and the randomness of their dropout.

    Training gives at most ``segments_BT`` and ``keys_B``; cached decoding gives ``start`` and ``valid_BS``.
    """

    positions_BT: jax.Array | None = None  # None: 0, 1, 2, …
    segments_BT: jax.Array | None = None  # attention stays within equal numbers; None: one document a row
    keys_B: jax.Array | None = None  # dropout keys, one an example; None: no dropout
    start: jax.Array | None = None  # the cache slot of the first token
    valid_BS: jax.Array | None = None  # cache slots that hold a token

    def visible_BTS(self, length: int) -> jax.Array:
        """Which of S keys each of T queries may attend to, as booleans of shape [B or 1, T, S]."""
        if self.valid_BS is not None:
            reach_T = self.start + jnp.arange(length)
            return self.valid_BS[:, None, :] & (jnp.arange(self.valid_BS.shape[1]) <= reach_T[:, None])
        causal_1TS = jnp.tril(jnp.ones((1, length, length), bool))
        if self.segments_BT is None:
            return causal_1TS
        return causal_1TS & (self.segments_BT[:, :, None] == self.segments_BT[:, None, :])

    def for_layer(self, layer: jax.Array | int) -> "Where":
        """The same, with the dropout keys of one layer."""
        if self.keys_B is None:
            return self
        return dataclasses.replace(self, keys_B=jax.vmap(jax.random.fold_in, (0, None))(self.keys_B, layer))


def dropout(x: jax.Array, rate: float, keys_B: jax.Array | None, site: int) -> jax.Array:
    """Zeroes each element with probability ``rate`` and scales the rest by 1/(1 - rate).

    Each example draws from its own key, so that masks do not depend on sharding or accumulation. ``site`` tells apart
    the places of one layer that drop.
    """
    if keys_B is None or rate == 0:
        return x

    def one(key, example):
        kept = jax.random.bernoulli(jax.random.fold_in(key, site), 1 - rate, example.shape)
        return jnp.where(kept, example / (1 - rate), 0)

    return jax.vmap(one)(keys_B, x)
