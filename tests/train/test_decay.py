"""Weight decay: of no vector or scalar of any registered part, whatever the layout its parameter lies in."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from gpt_jax.config import Config
from gpt_jax.configs import base
from gpt_jax.model import gpt, layout
from gpt_jax.train import optim
from gpt_jax.tree_paths import map_with_path
from tests.model import variants

STACKED = ("bias", "scale", "lambdas")  # of which a layer may have several: one a head, an expert or a softmax


def decayed(model, scanned: bool, **changes) -> dict[str, bool]:
    """Whether a step without a gradient moves a parameter, by the path in the unrolled layout."""
    values = base.get_config()
    values.optim.update(optimizer="sgd", weight_decay=0.5, warmup=0, clip=0.0, **changes)
    config = dataclasses.replace(Config.from_dict(values), model=model)
    shapes = jax.eval_shape(lambda: gpt.init(model, jax.random.key(0)))
    params = jax.tree.map(lambda leaf: jnp.ones(leaf.shape), shapes)
    params = layout.stack(params, 1) if scanned else params
    optimizer, grads = optim.build(config, params, scanned), jax.tree.map(jnp.zeros_like, params)
    updates, _, _ = optimizer.update(grads, optimizer.init(params), params, jnp.int32(0), optim.hyper_of(config))
    updates, found = layout.unstack(updates, 1) if scanned else updates, {}
    map_with_path(lambda path, update: found.setdefault(path, bool(jnp.any(update != 0))), updates)
    return found


def vectors(model) -> dict[str, bool]:
    """Whether a parameter is a vector, a scalar or a row of them, by its path."""
    shapes, found = jax.eval_shape(lambda: gpt.init(model, jax.random.key(0))), {}

    def is_vector(path: str, leaf) -> bool:
        names = path.split("/")
        return names[-1] in STACKED or leaf.ndim - ("experts" in names) < 2

    map_with_path(lambda path, leaf: found.setdefault(path, is_vector(path, leaf)), shapes)
    return found


@pytest.mark.every(4)
@pytest.mark.parametrize("kind, call", [pair for pair in variants.VARIANTS if pair[0] != "attend"])
def test_vectors_of_every_part_are_not_decayed_and_matrices_are(kind, call):
    model = variants.config(**{kind: call})
    expected = {path: not vector for path, vector in vectors(model).items()}
    assert decayed(model, scanned=False) == expected == decayed(model, scanned=True)


def test_a_row_that_names_a_decay_is_followed():
    model = variants.config()
    assert all(decayed(model, scanned=True, groups=((".*", {"weight_decay": 1.0}),)).values())
    assert not any(decayed(model, scanned=True, groups=((".*", {"weight_decay": 0.0}),)).values())
