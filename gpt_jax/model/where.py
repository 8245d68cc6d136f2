"""What a layer needs to know about its tokens besides their activations: positions, documents, dropout keys."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Tokens:
    """The order, positions and documents of n tokens of each row, which decide the keys a query may attend to.

    Args:
      slot_T: their order in the row, or in the cache.
      position_BT: their place in the text, [B or 1, n]; packed documents begin at 0 each, so does text after padding.
      segment_BT: document numbers, or None for one document a row.
      valid_BT: whether there is a token at all, or None for everywhere.
    """

    slot_T: jax.Array
    position_BT: jax.Array
    segment_BT: jax.Array | None = None
    valid_BT: jax.Array | None = None

    def take(self, start: jax.Array | int, length: int) -> "Tokens":
        """``length`` of them from ``start`` on, which may be traced."""
        return jax.tree.map(lambda a: jax.lax.dynamic_slice_in_dim(a, start, length, axis=-1), self)


Place = Callable[[jax.Array], jax.Array]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Where:
    """The positions of the T tokens that a layer is given, the keys that they may attend to, and their dropout keys.

    Training gives at most ``segments_BT`` and ``keys_B``; cached decoding gives ``start`` and ``valid_BS``. The model
    adds ``layer``, ``position``, and what layers read of the first layer and of the embedding.
    """

    positions_BT: jax.Array | None = None  # None: 0, 1, 2, …
    segments_BT: jax.Array | None = None  # attention stays within equal numbers; None: one document a row
    keys_B: jax.Array | None = None  # dropout keys, one an example; None: no dropout
    start: jax.Array | None = None  # the cache slot of the first token
    valid_BS: jax.Array | None = None  # cache slots that hold a token
    layer: jax.Array | int = 0
    position: Any = None  # the model's position scheme (gpt_jax.model.position)
    embedded_BTD: jax.Array | None = None  # the residual stream before the first layer
    values_BKTH: jax.Array | None = None  # the first layer's values, for attention that mixes them in
    place: Place = dataclasses.field(default=lambda x_BTD: x_BTD, metadata={"static": True})  # see ``GPT.hidden``

    def queries(self, length: int) -> Tokens:
        """The ``length`` tokens that the layer is given."""
        slot_T = jnp.arange(length) + (0 if self.start is None else self.start)
        position_BT = jnp.arange(length)[None] if self.positions_BT is None else self.positions_BT
        return Tokens(slot_T, position_BT, self.segments_BT)

    def keys(self, length: int) -> Tokens:
        """What can be attended to: the ``length`` slots of the cache, or the same tokens."""
        if self.valid_BS is None:
            return self.queries(length)
        slot_S = jnp.arange(length)
        queries = self.queries(1 if self.positions_BT is None else self.positions_BT.shape[1])
        ahead_B1 = queries.position_BT[:, -1:] - queries.slot_T[-1]  # by the last token: the first may be padding
        return Tokens(slot_S, slot_S + ahead_B1, None, self.valid_BS)

    def for_layer(self, layer: jax.Array | int) -> "Where":
        """The same, with the number and the dropout keys of one layer."""
        if self.keys_B is None:
            return dataclasses.replace(self, layer=layer)
        keys_B = jax.vmap(jax.random.fold_in, (0, None))(self.keys_B, layer)
        return dataclasses.replace(self, layer=layer, keys_B=keys_B)


def dropout(x: jax.Array, rate: float, keys_B: jax.Array | None, site: int) -> jax.Array:
    """Zeroes each element with probability ``rate`` and scales the rest by 1/(1 - rate).

    Each example draws from its own key, so that masks do not depend on sharding or accumulation. ``site``
    numbers the places of one layer that have dropout.
    """
    if keys_B is None or rate == 0:
        return x

    def one(key, example):
        kept = jax.random.bernoulli(jax.random.fold_in(key, site), 1 - rate, example.shape)
        return jnp.where(kept, example / (1 - rate), 0)

    return jax.vmap(one)(keys_B, x)
