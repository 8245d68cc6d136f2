"""What a layer needs to know about its tokens besides their activations: positions, documents, dropout keys."""

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol

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


class Texts(Protocol):
    """How the tokens of a text are split over devices (``gpt_jax.mesh.context``)."""

    def moves(self, length: int) -> tuple[Place, Place] | None:
        """To the order in which the model's arrays hold tokens and back, of arrays [B or 1, T, …]; None: as they come."""

    def attention(self, backend: Any, dropping: bool) -> Callable:
        """What computes attention in the place of ``backend.run``.

        Args:
          dropping: whether weights are dropped in this pass.
        """


class Experts(Protocol):
    """How experts are split over devices (``gpt_jax.mesh.experts``)."""

    def dropless(self, experts: Any, x_BTD: jax.Array, chosen_BTK: jax.Array, weight_BTK: jax.Array) -> jax.Array:
        """What ``Experts.dropless`` gives of all tokens, [B, T, D]."""

    def limited(
        self, experts: Any, x_BTD: jax.Array, chosen_BTK: jax.Array, weight_BTK: jax.Array, room: int
    ) -> tuple[jax.Array, jax.Array]:
        """What ``Experts.limited`` gives."""


class Stages(Protocol):
    """How layers are split over devices (``gpt_jax.mesh.pipeline``)."""

    def run(self, layers: Callable, x_BTD: jax.Array, where: "Where", stack: Any) -> tuple[jax.Array, None, dict]:
        """What ``layers(x_BTD, where, stack)`` gives: the stream after them, no cache, and their reports.

        Args:
          layers: takes any run of successive layers, of any of the rows.
          stack: of all layers, a leading axis of every array.
        """


@dataclasses.dataclass(frozen=True)
class Spread:
    """How devices share the work of a pass; not at all, unless it is given (``gpt_jax.mesh.spread``).

    Args:
      between: a constraint on the residual stream between the branches of a layer.
      read, write: constraints on what a branch reads of it, normalised, and on what it adds.
      layer: the parameters of a layer as it computes with them, in a type.
      texts, experts, stages: None where all devices have them whole.
      kernels: as ``texts``, where these are whole: for attention that compilers cannot split by rows and heads.
    """

    between: Place = lambda x_BTD: x_BTD
    read: Place = lambda x_BTD: x_BTD
    write: Place = lambda x_BTD: x_BTD
    layer: Callable[[Any, jnp.dtype], Any] = lambda layer, dtype: layer
    texts: Texts | None = None
    experts: Experts | None = None
    stages: Stages | None = None
    kernels: Texts | None = None


ALONE = Spread()


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
    order_1T: jax.Array | None = None  # of tokens in their row, where the arrays hold them otherwise; None: 0, 1, 2, …
    number: int | None = dataclasses.field(default=None, metadata={"static": True})  # of the layer, where it is known
    recompute: bool = dataclasses.field(default=False, metadata={"static": True})  # see ``AttentionSpec``
    place: Place = dataclasses.field(default=lambda x_BTD: x_BTD, metadata={"static": True})  # see ``GPT.hidden``
    spread: Spread = dataclasses.field(default=ALONE, metadata={"static": True})

    def queries(self, length: int) -> Tokens:
        """The ``length`` tokens that the layer is given."""
        place_1T = jnp.arange(length)[None] if self.order_1T is None else self.order_1T
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

    def moved(self, move: Place, length: int) -> "Where":
        """The same of ``length`` tokens that the arrays hold in another order."""
        order_1T = jnp.arange(length)[None]
        position_BT = order_1T if self.positions_BT is None else self.positions_BT
        segments_BT = None if self.segments_BT is None else move(self.segments_BT)
        return dataclasses.replace(
            self, positions_BT=move(position_BT), segments_BT=segments_BT, order_1T=move(order_1T)
        )

    def over_rows(self, f: Callable[[jax.Array], jax.Array]) -> "Where":
        """The same, with ``f`` applied to every array that has an entry for each row."""
        names = ["segments_BT", "keys_B", "embedded_BTD", "values_BKTH"]
        if self.positions_BT is not None and len(self.positions_BT) > 1:
            names.append("positions_BT")
        found = {name: getattr(self, name) for name in names}
        return dataclasses.replace(self, **{name: f(a) for name, a in found.items() if a is not None})

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
