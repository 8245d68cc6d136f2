"""Adapted models by definition: in the activations, as other libraries compute them, rather than in the weights."""

import contextlib
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from gpt_jax import registry
from gpt_jax.model import gpt
from gpt_jax.model.linear import Linear, spread
from gpt_jax.model.mlp.experts import ExpertLinear
from gpt_jax.tree_paths import map_with_path

ADAPTERS = [call for name in registry.names("train.adapters") for call in registry.examples("train.adapters", name)]
ADAPTERS.remove("none")


def build(call: str):
    return registry.build("train.adapters", call)


def shaken(trained: dict, size: float = 0.3) -> dict:
    """What an adapter trains after some training: every number moved."""
    draw = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: leaf + size * draw.standard_normal(leaf.shape).astype(leaf.dtype), trained)


def logits(c, adapter, base: dict, trained: dict, tokens_BT) -> jax.Array:
    """Of the unrolled model with the base's weights, where every changed layer adds s (x A) B to what it computes."""

    def run(base, trained, tokens_BT):
        def own(path, leaf):
            new = at(trained, path)
            return leaf if new is None or isinstance(new, dict) else new

        model = nnx.merge(gpt.graphdef(c), map_with_path(own, base))
        with _activations(model, adapter, trained):
            return model(tokens_BT)

    return jax.jit(run)(base, trained, tokens_BT)


def at(tree, path: str):
    """What is at a path; None where there is nothing."""
    for name in path.split("/"):
        if not isinstance(tree, dict) or name not in tree:
            return None
        tree = tree[name]
    return tree


@contextlib.contextmanager
def _activations(model, adapter, trained: dict) -> Iterator[None]:
    changes = {}
    for path, module in nnx.iter_modules(model):
        change = at(trained, "/".join([*map(str, path), "w"]))
        if isinstance(module, Linear | ExpertLinear) and isinstance(change, dict):
            changes[id(module)] = change

    def linear(self, x):
        if id(self) not in changes:
            return _LINEAR(self, x)
        new, w = changes[id(self)], self.w[...]
        inputs = int(np.prod(w.shape[: self.rank_in]))
        x_XI, w_IO = x.reshape(-1, inputs), w.reshape(inputs, -1)
        y_XO = _changed(adapter, x_XI, w_IO, *_flat(new, inputs))
        y = y_XO.reshape(*x.shape[:2], *w.shape[self.rank_in :])
        return y if self.bias is None else y + spread(self.bias[...], y.shape)

    def ragged(self, x_XD, expert_X, sizes_E, total=None):
        if id(self) not in changes:
            return _RAGGED(self, x_XD, expert_X, sizes_E, total)
        each = lambda x_D, e: _expert(self, adapter, changes[id(self)], x_D[None], e)[0]
        return jax.vmap(each)(x_XD, expert_X)

    def padded(self, x_BECD, total=None):
        if id(self) not in changes:
            return _PADDED(self, x_BECD, total)
        each = lambda x_BCD, e: _expert(self, adapter, changes[id(self)], x_BCD.reshape(-1, x_BCD.shape[-1]), e)
        y = jax.vmap(each, (1, 0), 1)(x_BECD, jnp.arange(x_BECD.shape[1]))
        return y.reshape(x_BECD.shape[0], x_BECD.shape[2], x_BECD.shape[1], -1).swapaxes(1, 2)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Linear, "__call__", linear)
        patch.setattr(ExpertLinear, "ragged", ragged)
        patch.setattr(ExpertLinear, "padded", padded)
        yield


_LINEAR, _RAGGED, _PADDED = Linear.__call__, ExpertLinear.ragged, ExpertLinear.padded


def _expert(layer, adapter, new, x_XD, e):
    own = {name: leaf[e] for name, leaf in new.items()}
    y_XF = _changed(adapter, x_XD, layer.w[...][e], *_flat(own, x_XD.shape[1]))
    return y_XF if layer.bias is None else y_XF + layer.bias[...][e]


def _flat(new: dict, inputs: int):
    a_IR = new["lora_a"].reshape(inputs, -1)
    b_RO = new["lora_b"].reshape(a_IR.shape[1], -1)
    return a_IR, b_RO, new["magnitude"].reshape(-1) if "magnitude" in new else None


def _changed(adapter, x_XI, w_IO, a_IR, b_RO, change_O):
    """g (x W + s (x A) B) / |W + s A B|, or without a norm."""
    y_XO = x_XI @ w_IO + adapter.scale * (x_XI @ a_IR) @ b_RO
    if change_O is None:
        return y_XO
    g_O = jnp.linalg.norm(w_IO, axis=0) + change_O
    return y_XO * g_O / jnp.linalg.norm(w_IO + adapter.scale * a_IR @ b_RO, axis=0)
