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
      order_BT: their order in the row, [B or 1, n].
      position_BT: their place in the text, [B or 1, n]; packed documents begin at 0 each, so does text after padding.
      segment_BT: document numbers, or None for one document a row.
      valid_BT: whether there is a token at all, or None for everywhere.
      oldest_BT: of queries, the first position that they may attend to, or None for any.
    """

    order_BT: jax.Array
    position_BT: jax.Array
    segment_BT: jax.Array | None = None
    valid_BT: jax.Array | None = None
    oldest_BT: jax.Array | None = None

    def take(self, start: jax.Array | int, length: int) -> "Tokens":
        """``length`` of them from ``start`` on, which may be traced."""
        return jax.tree.map(lambda a: jax.lax.dynamic_slice_in_dim(a, start, length, axis=-1), self)


Place = Callable[[jax.Array], jax.Array]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Where:
    """The positions of the T tokens that a layer is given, the keys that they may attend to, and their dropout keys.

    Training gives at most ``segments_BT`` and ``keys_B``; cached decoding gives ``start``, ``held`` and ``real_BT``. The
    model adds ``layer``, ``position``, and what layers read of the first layer and of the embedding.
    """

    positions_BT: jax.Array | None = None  # None: 0, 1, 2, …
    segments_BT: jax.Array | None = None  # attention stays within equal numbers; None: one document a row
    keys_B: jax.Array | None = None  # dropout keys, one an example; None: no dropout
    start: jax.Array | int | None = None  # turn of the first token: it is kept in slot start mod S; or one a row, [B]
    held: dict[int, jax.Array] | None = (
        None  # of caches of S slots, the positions of what they hold, [B, S]; -1: nothing
    )
    real_BT: jax.Array | None = None  # whether there is a token at all, and not padding; None: everywhere
    layer: jax.Array | int = 0
    position: Any = None  # the model's position scheme (gpt_jax.model.position)
    embedded_BTD: jax.Array | None = None  # the residual stream before the first layer
    values_BKTH: jax.Array | None = None  # the first layer's values, for attention that mixes them in
    window: int = dataclasses.field(default=0, metadata={"static": True})  # positions that cached attention goes back
    place: Place = dataclasses.field(default=lambda x_BTD: x_BTD, metadata={"static": True})  # see ``GPT.hidden``

    def queries(self, length: int) -> Tokens:
        """The ``length`` tokens that the layer is given."""
        place_1T = jnp.arange(length)[None]
        position_BT = place_1T if self.positions_BT is None else self.positions_BT
        if self.held is None:
            return Tokens(place_1T, position_BT, self.segments_BT)
        oldest_BT = position_BT - self.window + 1 if self.window else None
        return Tokens(position_BT, position_BT, self.segments_BT, oldest_BT=oldest_BT)

    def keys(self, length: int) -> Tokens:
        """What can be attended to: the ``length`` slots of the cache, or the same tokens."""
        if self.held is None:
            return self.queries(length)
        held_BS = self.held[length]
        return Tokens(held_BS, held_BS, None, held_BS >= 0)

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
