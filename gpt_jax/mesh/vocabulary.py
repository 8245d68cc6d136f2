"""A vocabulary over the devices along tensor, whatever its size (Megatron-LM; Shoeybi et al. 2019, section 3)."""

import math

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from gpt_jax.mesh.rules import shardings

AXIS = "tensor"
TILE = 128  # ids that a filled vocabulary is a multiple of: matrix units multiply so many at a time
TABLES = {"embed/tokens/w": 0, "readout/w": 1, "readout/bias": 0}  # path -> the dimension that ids number


def filled_size(vocab: int, parts: int) -> int:
    """Ids that ``parts`` devices compute with, where ``vocab`` have a meaning."""
    multiple = math.lcm(TILE, parts)
    return vocab if vocab % parts == 0 else math.ceil(vocab / multiple) * multiple


def filled(mesh: Mesh, rules: str, params: dict, vocab: int) -> dict:
    """The parameters as a step reads them: each table of ids with as many as divide over tensor, split as one that does.

    The model gives the ids that are added no probability (``readout.Projection``), and their gradient is 0. What is stored,
    and all else that reads it, keeps the vocabulary's own size.
    """
    fill = filled_size(vocab, mesh.shape[AXIS]) - vocab
    if not fill:
        return params
    leaves, treedef = jax.tree_util.tree_flatten_with_path(params)
    paths = [jax.tree_util.keystr(keys, simple=True, separator="/") for keys, _ in leaves]
    tables = {
        path: jnp.pad(w, [(0, fill if dimension == TABLES[path] else 0) for dimension in range(w.ndim)])
        for path, (_, w) in zip(paths, leaves, strict=True)
        if path in TABLES
    }
    placed = jax.lax.with_sharding_constraint(tables, shardings(tables, mesh, rules, scanned=False))
    return jax.tree_util.tree_unflatten(
        treedef, [placed.get(path, w) for path, (_, w) in zip(paths, leaves, strict=True)]
    )
