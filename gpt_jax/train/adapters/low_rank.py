"""Low-rank changes of weights, in weight space, so that an adapted model is any other model."""

import math
import re
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gpt_jax.config import ModelConfig
from gpt_jax.errors import UserError
from gpt_jax.limits import Positive, Size
from gpt_jax.model.init import LORA_A, LORA_B, MAGNITUDE
from gpt_jax.model.matrices import Matrix, matrices

WHERE = "config.tune.adapter"
LINEAR = r"^blocks/(?!.*router/)"  # every linear layer and expert of every block


@dataclass(frozen=True)
class Options:
    """What is trained.

    Args:
      rank: of the change of every matrix.
      alpha: the change is alpha / rank times A B, so that the learning rate may stay when the rank changes.
      rs: alpha / sqrt(rank), so that a large rank learns as fast as a small one (Kalajdzievski 2023).
      matrices: a regex of the weights that are changed, by their paths without the number of the layer, such as
        "attention/(q|v)/w$". Linear layers of blocks, the embedding and a readout of its own can be.
      full: a regex of the parameters that are trained themselves, such as "embed/tokens" or "norm"; empty = none.
    """

    rank: Size = 8
    alpha: Positive = 16.0
    rs: bool = False
    matrices: str = LINEAR
    full: str = ""


@dataclass(frozen=True)
class LowRank:
    """W + s A B for some weights W, and others trained as they are.

    W has shape (*layers, *experts, *inputs, *outputs), A (*layers, *experts, *inputs, rank) and B (*layers, *experts, rank,
    *outputs). A starts as PEFT's, uniform within 1/sqrt(inputs), and B at 0; for a table that is looked up, A starts at 0
    and B is normal.

    Args:
      magnitude: whether the norms of the columns are trained, too. What is trained is their change, which is 0 at first:
        the norm of W, divided by itself, would not be 1 on every device.
    """

    given: Options
    magnitude: bool
    alone = False

    def __post_init__(self):
        for name in ("matrices", "full"):
            _compiled(name, getattr(self.given, name))

    @property
    def scale(self) -> float:
        """s."""
        return self.given.alpha / (math.sqrt(self.given.rank) if self.given.rs else self.given.rank)

    def init(self, base: dict[str, Any], model: ModelConfig, key: jax.Array) -> dict[str, Any]:
        known, period = matrices(model), len(model.attentions)
        self._check(base, known)

        def begin(path: str, leaf: Any) -> Any:
            name = _name(path)
            if self.given.full and re.search(self.given.full, name):
                return leaf
            matrix = known.get(_stacked(path, period))
            if matrix is None or not re.search(self.given.matrices, name):
                return None
            own = jax.random.fold_in(key, zlib.crc32(name.encode()))
            return self._fresh(leaf, matrix, _keys(own, path, leaf, model))

        return _part(base, "", begin)

    def apply(self, base: dict[str, Any], trained: dict[str, Any]) -> dict[str, Any]:
        def one(old: Any, new: Any) -> Any:
            if not isinstance(old, dict):
                return self._changed(old, new) if isinstance(new, dict) else new
            return {name: one(child, new[name]) if name in new else child for name, child in old.items()}

        return one(base, trained)

    def _fresh(self, w: jax.Array, matrix: Matrix, keys: jax.Array) -> dict[str, jax.Array]:
        """A, B and the change of the norm of a weight; ``keys`` has an axis of layers where the weight has one."""
        layers = keys.shape
        shape = w.shape[len(layers) :]
        experts, outputs = shape[: matrix.experts], shape[matrix.experts + matrix.inputs :]
        a_shape = (*shape[: matrix.experts + matrix.inputs], self.given.rank)
        b_shape = (*experts, self.given.rank, *outputs)
        bound = math.prod(a_shape[matrix.experts : -1]) ** -0.5

        def draw(key):
            if matrix.lookup:
                return jnp.zeros(a_shape, w.dtype), jax.random.normal(key, b_shape, w.dtype)
            return jax.random.uniform(key, a_shape, w.dtype, -bound, bound), jnp.zeros(b_shape, w.dtype)

        a, b = jax.vmap(draw)(keys) if layers else draw(keys)
        fresh = {LORA_A: a, LORA_B: b}
        return fresh | ({MAGNITUDE: jnp.zeros((*layers, *experts, *outputs), w.dtype)} if self.magnitude else {})

    def _changed(self, w: jax.Array, new: dict[str, jax.Array]) -> jax.Array:
        a, b = new[LORA_A], new[LORA_B]
        lead = a.ndim + b.ndim - 2 - w.ndim  # axes of layers and experts
        inputs, rank = a.ndim - 1 - lead, a.shape[-1]
        a_XIR, b_XRO = a.reshape(*w.shape[:lead], -1, rank), b.reshape(*w.shape[:lead], rank, -1)
        change = self.scale * jnp.matmul(a_XIR, b_XRO, precision=jax.lax.Precision.HIGHEST).reshape(w.shape)
        if not self.magnitude:
            return w + change
        axes = tuple(range(lead, lead + inputs))
        square = jnp.square(w).sum(axes, keepdims=True)
        # |W + C|^2 as |W|^2 + (2 W + C) C: the same number as |W|^2 while C is 0.
        after = jnp.maximum(square + (change * (2 * w + change)).sum(axes, keepdims=True), 0)
        norm = jnp.maximum(jax.lax.stop_gradient(jnp.sqrt(after)), jnp.finfo(w.dtype).tiny)
        grown = jnp.expand_dims(new[MAGNITUDE], axes) + jnp.sqrt(square) - norm
        return (1 + grown / norm) * (w + change)

    def _check(self, base: dict[str, Any], known: dict[str, Matrix]) -> None:
        """
        Raises:
          UserError: a regex matches nothing.
        """
        paths = [_name(path) for path in _paths(base, "")]
        for name, those in (("matrices", map(_name, known)), ("full", paths)):
            pattern, allowed = getattr(self.given, name), sorted(set(those))
            if pattern and not any(re.search(pattern, path) for path in allowed):
                raise UserError(
                    f"{name}={pattern!r} matches no parameter",
                    where=WHERE,
                    allowed=f"a regex of paths without the number of the layer: {', '.join(allowed)}",
                )


def _compiled(name: str, pattern: str) -> re.Pattern:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise UserError(f"{name}={pattern!r} is no regular expression: {error}", where=WHERE) from None


def _name(path: str) -> str:
    """A path without the number of the layer, the same for all layers and in both layouts."""
    return re.sub(r"^blocks/\d+/", "blocks/", path)


def _stacked(path: str, period: int) -> str:
    """The path of a parameter in the stacked layout."""
    return re.sub(r"^blocks/(\d+)/", lambda found: f"blocks/{int(found[1]) % period}/", path)


def _keys(key: jax.Array, path: str, leaf: Any, model: ModelConfig) -> jax.Array:
    """A key for each layer of a parameter, in an axis of layers where it has one: the same in both layouts."""
    found = re.match(r"blocks/(\d+)/", path)
    if not found:
        return key
    first = int(found[1])
    if not model.scan:
        return jax.random.fold_in(key, first)
    layers = first + len(model.attentions) * np.arange(leaf.shape[0], dtype=np.uint32)
    return jax.vmap(lambda layer: jax.random.fold_in(key, layer))(layers)


def _part(node: Any, path: str, begin: Any) -> Any:
    """The part of a tree for which ``begin(path, leaf)`` is not None. Of blocks every one is kept, though it be empty."""
    if not isinstance(node, dict):
        return begin(path, node)
    found = {name: _part(child, f"{path}/{name}".lstrip("/"), begin) for name, child in node.items()}
    return {name: child for name, child in found.items() if path == "blocks" or jax.tree.leaves(child)}


def _paths(node: Any, path: str) -> Iterable[str]:
    if not isinstance(node, dict):
        return [path]
    return [found for name, child in node.items() for found in _paths(child, f"{path}/{name}".lstrip("/"))]
