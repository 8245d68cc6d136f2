"""How decoding is split over a mesh: rows over data and fsdp, heads, channels and vocabulary over tensor.

A dimension that does not divide is replicated. The compiler inserts the collectives.
"""

import math
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from gpt_jax.mesh.mesh import BATCH_AXES

CHANNELS = ("tensor",)


def mesh_of(params: Any) -> Mesh | None:
    """The mesh that parameters are laid out on; None where that is a single device."""
    shardings = {leaf.sharding for leaf in jax.tree.leaves(params) if isinstance(leaf, jax.Array)}
    meshes = {sharding.mesh for sharding in shardings if isinstance(sharding, NamedSharding)}
    return next((mesh for mesh in meshes if mesh.size > 1), None)


def split(mesh: Mesh, shape: tuple[int, ...], *axes: tuple[str, ...]) -> NamedSharding:
    """The first dimensions over these axes of the mesh, each where it divides."""
    sizes = [math.prod(mesh.shape[axis] for axis in names) for names in axes]
    spec = [names if size % n == 0 else None for size, names, n in zip(shape, axes, sizes, strict=False)]
    return NamedSharding(mesh, PartitionSpec(*spec))


def place_matrix(mesh: Mesh | None, w: jax.Array) -> jax.Array:
    """w_FD or bias_F, its outputs over tensor."""
    return w if mesh is None else jax.lax.with_sharding_constraint(w, split(mesh, w.shape, CHANNELS))


def place_rest(mesh: Mesh | None, tree: Any) -> Any:
    """Other parameters: as they are where they are on the mesh, else replicated."""
    if mesh is None:
        return tree
    everywhere = NamedSharding(mesh, PartitionSpec())

    def put(leaf):
        there = isinstance(leaf.sharding, NamedSharding) and leaf.sharding.mesh == mesh
        return leaf if there else jax.device_put(leaf, everywhere)

    return jax.tree.map(put, tree)


def place_rows(mesh: Mesh | None, tree: Any, *axes: tuple[str, ...]) -> Any:
    """Arrays of rows, [B, …], with further axes for what follows the rows; a scalar is replicated."""
    if mesh is None:
        return tree
    return jax.tree.map(
        lambda leaf: jax.lax.with_sharding_constraint(leaf, split(mesh, leaf.shape, BATCH_AXES, *axes)), tree
    )


def place_cache(mesh: Mesh | None, cache: dict) -> dict:
    """A cache of ``GPT.init_cache``: of keys, values and states [B, K, …], heads over tensor too."""
    return {"held": place_rows(mesh, cache["held"]), "blocks": place_rows(mesh, cache["blocks"], CHANNELS)}


def everywhere(mesh: Mesh | None, tree: Any) -> Any:
    """Replicated, so that every process can read it."""
    if mesh is None:
        return tree
    whole = NamedSharding(mesh, PartitionSpec())
    return jax.tree.map(lambda leaf: jax.lax.with_sharding_constraint(leaf, whole), tree)
