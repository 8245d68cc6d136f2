"""The parameters as decoding wants them: layers unrolled, matrices in ``model.dtype``, transposed and side by side.

A turn of the decoding loop multiplies B rows with every matrix of the model, so it is as fast as the matrices can be
read. w_FD is read faster than w_DF for such thin products (docs/sampling.md has the figures), and one product with the
matrices of several layers takes less time than several.
"""

import functools
import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.extend.core import get_opaque_trace_state
from jax.sharding import Mesh

from gpt_jax.config import ModelConfig
from gpt_jax.mesh import decoding
from gpt_jax.model import gpt
from gpt_jax.model.linear import Linear
from gpt_jax.sample.platform import Product
from gpt_jax.tree_paths import map_with_path

LARGEST = 127  # of int8
TABLES = ("embed/tokens/w", "readout/w")  # read in model.dtype, like the linear layers' matrices


@dataclass(frozen=True)
class Layer:
    """A linear layer of the model: its path, the shape of w, and how many of its axes are inputs."""

    path: tuple[str, ...]
    shape: tuple[int, ...]
    rank_in: int
    biased: bool

    @property
    def outputs(self) -> int:
        return math.prod(self.shape[self.rank_in :])


Group = tuple[Layer, ...]  # layers that are given the same array


class Together:
    """Linear layers that are given the same array: one product with their matrices, which are stored side by side."""

    def __init__(self, stored: dict, product: Product):
        self._w_FD, self._scale_F, self._bias_F = stored["w"], stored.get("scale"), stored.get("bias")
        self._product = product
        self._x: Any = None

    def rows(self, rows: slice) -> jax.Array:
        """Some of the rows of w_FD."""
        scale_F = self._scale_F
        return self._w_FD[rows] if scale_F is None else self._w_FD[rows].astype(scale_F.dtype) * scale_F[rows, None]

    def __call__(self, x: jax.Array) -> jax.Array:
        """All outputs of [B, T, *inputs] one after another, [B, T, F] in x's dtype; computed once for an array."""
        if self._x is not x:
            y_BTF = self._product(x.reshape(*x.shape[:2], self._w_FD.shape[1]), self._w_FD.astype(x.dtype))
            y_BTF = y_BTF if self._scale_F is None else y_BTF * self._scale_F.astype(y_BTF.dtype)
            y_BTF = y_BTF if self._bias_F is None else y_BTF + self._bias_F.astype(y_BTF.dtype)
            self._x, self._y_BTF = x, y_BTF.astype(x.dtype)
        return self._y_BTF


class Part:
    """What ``Linear`` computes, from rows ``first`` and following of a ``Together``."""

    def __init__(self, together: Together, layer: Layer, first: int):
        self._together, self._layer = together, layer
        self._rows = slice(first, first + layer.outputs)

    @property
    def w(self) -> jax.Array:
        return self._together.rows(self._rows).T.reshape(self._layer.shape)

    def __call__(self, x: jax.Array) -> jax.Array:
        """x [B, T, *inputs] -> [B, T, *outputs], in x's dtype."""
        layer = self._layer
        return self._together(x)[..., self._rows].reshape(*x.shape[:2], *layer.shape[layer.rank_in :])


def prepare(config: ModelConfig, params: dict, mesh: Mesh | None = None, int8: bool = False) -> dict:
    """{"groups": by group {"w": w_FD in ``config.dtype``, "bias"}, "rest": the parameters without these}.

    Args:
      config, params: of an unrolled model.
      mesh: what they are laid out on; None: one device.
      int8: w_FD of whole numbers up to 127, and "scale" [F], by which each output is multiplied. The embedding and the
        readout stay as they are.
    """
    groups = linear_groups(config)
    within = {"/".join(layer.path) for group in groups for layer in group}

    def rest(name, leaf):
        if name.rpartition("/")[0] in within:
            return jnp.zeros(0, leaf.dtype)
        return leaf.astype(config.dtype) if name in TABLES else leaf

    def given(group):
        return [functools.reduce(dict.__getitem__, layer.path, params) for layer in group]

    params = decoding.place_rest(mesh, params)
    stored = [_side_by_side(given(group), group, config.dtype, mesh, int8) for group in groups]
    return {"groups": stored, "rest": map_with_path(rest, params)}


def merge(config: ModelConfig, weights: dict, product: Product) -> nnx.Module:
    """The unrolled model over what ``prepare`` returned."""
    model = nnx.merge(gpt.graphdef(config), weights["rest"])
    for group, stored in zip(linear_groups(config), weights["groups"], strict=True):
        together, first = Together(stored, product), 0
        for layer in group:
            _put(model, layer.path, Part(together, layer, first))
            first += layer.outputs
    return model


class _Noted:
    """A linear layer that notes what it is given, and within which function that JAX is tracing."""

    def __init__(self, layer: Layer, linear: Linear, calls: list):
        self._layer, self._linear, self._calls = layer, linear, calls
        self.w = linear.w

    def __call__(self, x: jax.Array) -> jax.Array:
        self._calls.append((self._layer, x, get_opaque_trace_state()))
        return self._linear(x)


@functools.lru_cache
def linear_groups(config: ModelConfig) -> tuple[Group, ...]:
    """The model's linear layers, grouped by what cached decoding gives them.

    Layers are a group if they are called once, with the same array, in the same function that JAX traces.
    """
    abstract: Any = nnx.eval_shape(lambda: gpt.GPT(config, nnx.Rngs(params=0)))
    modules = [(tuple(map(str, path)), module) for path, module in nnx.iter_modules(abstract)]
    layers = {
        path: Layer(path, module.w.shape, module.rank_in, module.bias is not None)
        for path, module in modules
        if isinstance(module, Linear)
    }
    calls: list[tuple[Layer, jax.Array, Any]] = []

    def run(params):
        model = nnx.merge(gpt.graphdef(config), params)
        for path, layer in layers.items():
            _put(model, path, _Noted(layer, _of_module(model, path), calls))
        token_11 = jnp.zeros((1, 1), jnp.int32)
        return model.extend(token_11, model.init_cache(1, 1), 0, token_11)

    jax.eval_shape(run, nnx.to_pure_dict(nnx.split(abstract)[1]))
    times = Counter(layer for layer, _, _ in calls)
    alone = [(layer,) for layer in layers.values() if times[layer] != 1]
    shared: list[tuple[tuple, list[Layer]]] = []
    for layer, x, trace in calls:
        if times[layer] == 1:
            given = (trace, layer.biased)
            same = [group for (other, *rest), group in shared if other is x and tuple(rest) == given]
            if same:
                same[0].append(layer)
            else:
                shared.append(((x, *given), [layer]))
    return (*alone, *(tuple(group) for _, group in shared))


def _of_module(model: Any, path: tuple[str, ...]) -> Any:
    return functools.reduce(getattr, path, model)


def _put(model: nnx.Module, path: tuple[str, ...], layer: Any) -> None:
    setattr(_of_module(model, path[:-1]), path[-1], layer)


@functools.partial(jax.jit, static_argnums=(1, 2, 3, 4))
def _side_by_side(given: list[dict], group: Group, dtype: str, mesh: Mesh | None, int8: bool) -> dict:
    matrices = [w["w"].reshape(-1, layer.outputs).T.astype(dtype) for w, layer in zip(given, group, strict=True)]
    stored = {"w": jnp.concatenate(matrices)}
    if int8:
        scale_F = jnp.abs(stored["w"]).max(-1).astype(jnp.float32) / LARGEST
        whole_FD = jnp.round(stored["w"] / jnp.where(scale_F > 0, scale_F, 1)[:, None])
        stored = {"w": whole_FD.clip(-LARGEST, LARGEST).astype(jnp.int8), "scale": scale_F}
    if group[0].biased:
        stored["bias"] = jnp.concatenate([w["bias"].reshape(-1) for w in given])
    return {name: decoding.place_matrix(mesh, array) for name, array in stored.items()}
