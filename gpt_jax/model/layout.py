"""The two layouts of a stack of layers, and the way between them.

Unrolled, ``blocks/0`` to ``blocks/{L-1}`` hold a layer each: fastest to run on CPU. Stacked, ``blocks/0`` to
``blocks/{p-1}`` hold the layers of one attention mechanism each, with a leading axis of L/p layers (p: the length of the
attention cycle, 1 for most models): what ``lax.scan`` wants, and what checkpoints always hold.
"""

from typing import Any

import jax
import jax.numpy as jnp


def stack(tree: Any, period: int) -> Any:
    """Unrolled -> stacked, for every dict found under a key "blocks" (parameters, optimizer state, …)."""

    def convert(blocks: dict) -> dict:
        layers = [blocks[str(i)] for i in range(len(blocks))]
        return {str(j): jax.tree.map(lambda *leaves: jnp.stack(leaves), *layers[j::period]) for j in range(period)}

    return _over_blocks(convert, tree)


def unstack(tree: Any, period: int) -> Any:
    """Stacked -> unrolled: the inverse of ``stack``. A tree without an array in any layer is the same in both layouts."""
    found: list[int] = []

    def measure(blocks: dict) -> dict:
        found.extend(len(leaf) for leaf in jax.tree.leaves(blocks))
        return blocks

    _over_blocks(measure, tree)
    if not found:
        return tree
    repeats = found[0]

    def convert(blocks: dict) -> dict:
        return {
            str(i * period + j): jax.tree.map(lambda leaf, i=i: leaf[i], blocks[str(j)])
            for i in range(repeats)
            for j in range(period)
        }

    return _over_blocks(convert, tree)


def _over_blocks(convert, tree):
    def holds_blocks(node):
        return isinstance(node, dict) and "blocks" in node

    def change(node):
        return {**node, "blocks": convert(node["blocks"])} if holds_blocks(node) else node

    return jax.tree.map(change, tree, is_leaf=holds_blocks)
