"""The zig-zag order of tokens, in which every device of a ring has as much causal attention to compute as another.

A text is cut into 2 c pieces over c devices. As arrays come, device i has the pieces 2i and 2i + 1; in zig-zag order it has
the pieces i and 2c - 1 - i, an early and a late one (Brandon et al. 2023, "Striped Attention", deals out single tokens).
"""

import functools

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec

from gpt_jax.mesh.mesh import BATCH_AXES
from gpt_jax.model.where import Place


def moves(mesh: Mesh, axis: str) -> tuple[Place, Place]:
    """To zig-zag order and back, of arrays [B or 1, T, …]: each device sends its two pieces once."""
    parts = mesh.shape[axis]
    return tuple(_everywhere(mesh, axis, functools.partial(f, axis, parts)) for f in (_enter, _leave))


def _everywhere(mesh, axis, local):
    def move(a):
        spec = PartitionSpec(BATCH_AXES if len(a) > 1 else None, axis)
        return jax.shard_map(local, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False)(a)

    return move


def _target(piece: int, parts: int) -> int:
    """The device that has a piece in zig-zag order."""
    return min(piece, 2 * parts - 1 - piece)


def _enter(axis, parts, a):
    even, odd = jnp.split(a, 2, axis=1)
    even = jax.lax.ppermute(even, axis, [(i, _target(2 * i, parts)) for i in range(parts)])
    odd = jax.lax.ppermute(odd, axis, [(i, _target(2 * i + 1, parts)) for i in range(parts)])
    # Device i's early piece is i, its late one 2c - 1 - i: one of them is even.
    early_is_even = jax.lax.axis_index(axis) % 2 == 0
    early, late = jnp.where(early_is_even, even, odd), jnp.where(early_is_even, odd, even)
    return jnp.concatenate([early, late], axis=1)


def _leave(axis, parts, a):
    early, late = jnp.split(a, 2, axis=1)
    early_is_even = jax.lax.axis_index(axis) % 2 == 0
    even, odd = jnp.where(early_is_even, early, late), jnp.where(early_is_even, late, early)
    even = jax.lax.ppermute(even, axis, [(_target(2 * i, parts), i) for i in range(parts)])
    odd = jax.lax.ppermute(odd, axis, [(_target(2 * i + 1, parts), i) for i in range(parts)])
    return jnp.concatenate([even, odd], axis=1)
