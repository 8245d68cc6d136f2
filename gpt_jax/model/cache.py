"""What decoding keeps of earlier tokens, by slot. A ring of S slots keeps the token of turn t in slot t mod S."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from gpt_jax.model.where import Where

SCALE, LARGEST = "_scale", 127.0  # of quantised arrays
NOTHING = -1  # the position of what an empty slot holds, and of padding


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Ring:
    """The last S tokens of each row, as a mechanism keeps them: arrays [B, K, S, H] by name.

    A quantised array is int8 and has a factor for each token and head, [B, K, S, 1], by the name with ``SCALE``.

    Args:
      exact: names of arrays that are not quantised.
    """

    arrays: dict[str, jax.Array]
    exact: tuple[str, ...] = dataclasses.field(default=(), metadata={"static": True})

    @property
    def slots(self) -> int:
        return next(iter(self.arrays.values())).shape[-2]

    def __getitem__(self, name: str) -> jax.Array:
        """An array in the dtype that it was made with."""
        if name + SCALE not in self.arrays:
            return self.arrays[name]
        scale_BKS1 = self.arrays[name + SCALE]
        return self.arrays[name].astype(scale_BKS1.dtype) * scale_BKS1

    def append(self, where: Where, **new_BKTH: jax.Array) -> "Ring":
        """The ring with T more tokens, the first of them that of turn ``where.start``."""
        stored: dict[str, jax.Array] = {}
        for name, new in new_BKTH.items():
            scale = self.arrays[name + SCALE] if name + SCALE in self.arrays else None
            stored |= {name: new} if scale is None else _quantised(name, new.astype(scale.dtype))
        new_arrays = {name: _append(self.arrays[name], new, where.start) for name, new in stored.items()}
        return dataclasses.replace(self, arrays=new_arrays)

    def quantised(self) -> "Ring":
        """An empty ring that keeps int8; reading gives the dtype that it has now."""
        arrays: dict[str, jax.Array] = {}
        for name, array in self.arrays.items():
            arrays |= {name: array} if name in self.exact else _quantised(name, array)
        return dataclasses.replace(self, arrays=arrays)


def ring(batch: int, slots: int, dtype: jnp.dtype, exact: tuple[str, ...] = (), **sizes: tuple[int, int]) -> Ring:
    """An empty ring of arrays [B, K, S, H], (K, H) each by name; those in ``exact`` are never quantised."""
    return Ring({name: jnp.zeros((batch, heads, slots, size), dtype) for name, (heads, size) in sizes.items()}, exact)


def quantised(cache: Any) -> Any:
    """An empty cache whose rings keep int8; what else it holds stays as it is."""
    return jax.tree.map(lambda node: node.quantised() if _is_ring(node) else node, cache, is_leaf=_is_ring)


def _is_ring(node: Any) -> bool:
    return isinstance(node, Ring)


def _quantised(name: str, x_BKTH: jax.Array) -> dict[str, jax.Array]:
    """x as whole numbers up to 127, times the largest absolute value of each token and head over 127."""
    scale_BKT1 = jnp.abs(x_BKTH).max(-1, keepdims=True) / LARGEST
    whole_BKTH = jnp.round(x_BKTH / jnp.where(scale_BKT1 > 0, scale_BKT1, 1)).clip(-LARGEST, LARGEST)
    return {name: whole_BKTH.astype(jnp.int8), name + SCALE: scale_BKT1}


def rings(cache: Any) -> list[Ring]:
    """Those in a cache."""
    return [node for node in jax.tree.leaves(cache, is_leaf=_is_ring) if _is_ring(node)]


def hold(held: dict[int, jax.Array], positions_BT: jax.Array, start: jax.Array | int) -> dict[int, jax.Array]:
    """``Where.held`` after T more tokens."""

    return {slots: _put(held_BS, positions_BT, start, axis=1) for slots, held_BS in held.items()}


def _append(cache_BKSH, new_BKTH, start):
    def write_apart(cache_BKSH, new_BKTH, start):
        # The condition always holds. It keeps XLA's CPU backend from fusing the write into its readers, which would copy
        # the whole cache several times a layer instead of writing in place.
        return jax.lax.cond(jnp.min(start) >= 0, _put, lambda cache, new, start: cache, cache_BKSH, new_BKTH, start)

    if isinstance(start, int):
        return _put(cache_BKSH, new_BKTH, start)
    return jax.lax.platform_dependent(cache_BKSH, new_BKTH, start, cpu=write_apart, default=_put)


def _put(kept, new, start, axis=2):
    """Arrays with T more entries along an axis of slots; the first axis is that of rows."""
    slots, count = kept.shape[axis], new.shape[axis]
    new = new.astype(kept.dtype)
    if jnp.ndim(start) == 1:
        return jax.vmap(lambda kept, new, start: _put(kept[None], new[None], start, axis)[0])(kept, new, start)
    in_line = start % slots + count <= slots if isinstance(start, int) else count == 1
    if in_line:
        return jax.lax.dynamic_update_slice_in_dim(kept, new, start % slots, axis)
    at = (*[slice(None)] * axis, (start + jnp.arange(count)) % slots)
    return kept.at[at].set(new, unique_indices=True)
