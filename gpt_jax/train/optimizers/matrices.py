"""Optimizers that treat a parameter as a matrix: which parameters are matrices, and in what shape.

A weight such as q/w [D, N, H] is the matrix [D, N*H]; its axes are split where that makes it most nearly square, which
is between inputs and outputs for every weight of a transformer; those of a low-rank change A B are split at the rank. Layers
of a scanned stack, and experts, are matrices of their own.
"""

import math

import jax
import jax.numpy as jnp
import optax

from gpt_jax.model.init import LORA_A, LORA_B, MAGNITUDE
from gpt_jax.tree_paths import path_of

VECTORS = (
    "bias",
    "scale",
    "lambdas",
    MAGNITUDE,
)  # of which some have an axis for heads, or for the four of differential attention
MATRICES = ("w", LORA_A, LORA_B)


def is_hidden_matrix(path: tuple, leaf: jax.Array, scanned: bool) -> bool:
    """Whether a parameter is a weight inside a block, rather than an embedding, a readout or a vector."""
    name = path_of(path).split("/")
    return "blocks" in name and name[-1] in MATRICES and not is_vector(path_of(path), leaf, scanned)


def is_vector(path: str, leaf: jax.Array, scanned: bool) -> bool:
    """Whether a parameter is a vector or a scalar, or a row of them: one a layer, an expert or a head."""
    return path.split("/")[-1] in VECTORS or leaf.ndim - leading(path, scanned) < 2


def per_matrix(inner: optax.GradientTransformation, scanned: bool) -> optax.GradientTransformation:
    """Applies ``inner`` to each parameter by itself, seen as a matrix; so to each layer of a stack, and each expert.

    The state has the structure of ``inner``'s with a tree like the parameters in place of each of its leaves, so that
    it is stacked and sharded as they are. Leaves of a parameter's size have its shape.
    """

    def one(path, leaf, function, *args):
        for _ in range(leading(path_of(path), scanned)):
            function = jax.vmap(function)
        return function(*args)

    def init(params):
        def leaf_state(path, param):
            def start(p):
                return jax.tree.map(lambda s: _like(s, p), inner.init(_matrix(path, p)))

            return one(path, param, start, param)

        return _outside_in(params, jax.tree_util.tree_map_with_path(leaf_state, params), inner)

    def update(grads, state, params=None):
        def leaf_update(path, param, grad, *leaves):
            def advance(p, g, leaves):
                matrix = _matrix(path, p)
                shapes = jax.eval_shape(inner.init, matrix)
                given = jax.tree.map(lambda s, leaf: leaf.reshape(s.shape), shapes, treedef.unflatten(leaves))
                direction, after = inner.update(_matrix(path, g), given, matrix)
                return direction.reshape(p.shape), [_like(s, p) for s in jax.tree.leaves(after)]

            return one(path, param, advance, param, grad, list(leaves))

        treedef = jax.tree.structure(jax.eval_shape(inner.init, jnp.zeros((2, 2))))
        trees = treedef.flatten_up_to(state)
        both = jax.tree_util.tree_map_with_path(leaf_update, params, grads, *trees)
        is_pair = lambda node: type(node) is tuple  # and not optax's MaskedNode, a named one
        directions = jax.tree.map(lambda pair: pair[0], both, is_leaf=is_pair)
        after = [jax.tree.map(lambda pair, i=i: pair[1][i], both, is_leaf=is_pair) for i in range(len(trees))]
        return directions, treedef.unflatten(after)

    return optax.GradientTransformation(init, update)


def _outside_in(params, states, inner):
    """A tree of states to a state of trees."""
    treedef = jax.tree.structure(jax.eval_shape(inner.init, jnp.zeros((2, 2))))
    return jax.tree.transpose(jax.tree.structure(params), treedef, states)


def leading(path: str, scanned: bool) -> int:
    """Axes in front of a parameter's own: the layers of a stack, and experts."""
    name = path.split("/")
    return (scanned and "blocks" in name) + ("experts" in name)


def _matrix(path: tuple, x: jax.Array) -> jax.Array:
    if x.ndim < 3:
        return x
    name = path_of(path).split("/")[-1]
    if name in (LORA_A, LORA_B):
        return x.reshape(-1, x.shape[-1]) if name == LORA_A else x.reshape(x.shape[0], -1)
    splits = [(math.prod(x.shape[:i]), math.prod(x.shape[i:])) for i in range(1, x.ndim)]
    return x.reshape(min(splits, key=lambda split: max(split) / min(split)))


def _like(s: jax.Array, param: jax.Array) -> jax.Array:
    return s.reshape(param.shape) if s.size == param.size and s.ndim else s
