"""Root mean squares of tensors, one by one: of parameters, gradients and updates, every ``train.watch_every`` steps.

``rms`` is traced into the step; ``named`` turns what came out of it into the records of metrics.jsonl, with one name
per layer whether layers are scanned or not: watch/grads/blocks/3/attention/q/w.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def rms(tree: Any, scanned: bool) -> dict[str, jax.Array]:
    """Path -> root mean square over the tensor, in float32 or better. Traceable.

    Args:
      tree: a nested dict of arrays.
      scanned: leaves below "blocks" are stacked over layers; theirs is a vector, one value per layer.
    """
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {jax.tree_util.keystr(path, simple=True, separator="/"): _rms(path, leaf, scanned) for path, leaf in leaves}


def _rms(path: tuple, x: jax.Array, scanned: bool) -> jax.Array:
    stacked = scanned and any(str(getattr(key, "key", "")) == "blocks" for key in path)
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    return jnp.sqrt(jnp.mean(jnp.square(x), axis=tuple(range(1, x.ndim)) if stacked else None))


def named(kind: str, values: Mapping[str, Any], period: int) -> dict[str, float]:
    """``rms``'s values on the host, as "watch/<kind>/<path>" -> number.

    Args:
      period: of the cycle of attention; entry j of stacked blocks/r is layer j * period + r. Some r may be absent.
    """
    host = jax.device_get(dict(values))
    out = {}
    for path, value in host.items():
        if np.ndim(value) == 0:
            out[f"watch/{kind}/{path}"] = float(value)
            continue
        head, _, tail = path.partition(f"blocks/{_block(path)}/")
        for j, entry in enumerate(value):
            out[f"watch/{kind}/{head}blocks/{j * period + _block(path)}/{tail}"] = float(entry)
    return out


def _block(path: str) -> int:
    """The number that follows "blocks" in a path."""
    parts = path.split("/")
    return int(parts[parts.index("blocks") + 1])
