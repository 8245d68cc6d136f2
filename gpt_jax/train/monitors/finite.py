"""Checks for NaN and infinity."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from gpt_jax.errors import NonFiniteError
from gpt_jax.tree_paths import path_of


def all_finite(tree: Any) -> jax.Array:
    """Whether every element of every floating-point leaf is finite, as a boolean scalar. Traceable."""
    checks = [jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    return jnp.stack(checks).all() if checks else jnp.bool_(True)


def first_bad(tree: Any) -> str | None:
    """The path of the first leaf with a non-finite element, in the order of the tree; None if there is none."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return next((path_of(keys) for keys, leaf in leaves if not bool(all_finite(leaf))), None)


@contextlib.contextmanager
def found_by_jax(workdir: Path) -> Iterator[None]:
    """What JAX_DEBUG_NANS or JAX_DEBUG_INFS finds within ends the run as any number that is not finite."""
    try:
        yield
    except FloatingPointError as error:
        raise NonFiniteError(
            f"JAX found a number that is not finite: {str(error).partition(chr(10))[0]}",
            where=str(workdir),
            fix="the last checkpoint is intact",
        ) from error
