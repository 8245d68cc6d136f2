"""The names of parameters: keys joined by "/", as in blocks/0/attention/q/w."""

from collections.abc import Callable
from typing import Any

import jax


def path_of(keys: tuple) -> str:
    """A path of JAX's key objects as a name."""
    return jax.tree_util.keystr(keys, simple=True, separator="/")


def map_with_path(function: Callable[..., Any], tree: Any, *rest: Any) -> Any:
    """``jax.tree.map`` of function(name, leaf, …)."""
    return jax.tree_util.tree_map_with_path(lambda keys, *leaves: function(path_of(keys), *leaves), tree, *rest)
