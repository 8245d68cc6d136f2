"""The zig-zag order: which device has which tokens, there and back."""

import jax
import numpy as np
import pytest

from gpt_jax.mesh import mesh as meshes
from gpt_jax.mesh.context.order import moves
from tests.mesh.sizes import mesh_config


@pytest.mark.parametrize("parts", [2, 4, 8])
def test_each_device_has_an_early_piece_and_its_late_one(parts):
    mesh = meshes.make(mesh_config(data=8 // parts, context=parts))
    enter, leave = moves(mesh, "context")
    tokens_1T = np.arange(4 * parts)[None]
    zigzag = np.asarray(jax.jit(enter)(tokens_1T)).reshape(parts, 2, 2)
    for device, (early, late) in enumerate(zigzag):
        assert early.tolist() == [2 * device, 2 * device + 1]
        last = 4 * parts - 2 * device
        assert late.tolist() == [last - 2, last - 1]
    np.testing.assert_array_equal(jax.jit(lambda a: leave(enter(a)))(tokens_1T), tokens_1T)


def test_pairs_seen_in_causal_attention_are_as_many_on_every_device():
    parts, length = 8, 64
    mesh = meshes.make(mesh_config(context=parts))
    order = np.asarray(jax.jit(moves(mesh, "context")[0])(np.arange(length)[None])).reshape(parts, -1)
    assert len({int((of_device + 1).sum()) for of_device in order}) == 1
    as_given = np.arange(length).reshape(parts, -1)
    assert (as_given[-1] + 1).sum() > 10 * (as_given[0] + 1).sum()


def test_rows_and_channels_stay_in_their_place():
    mesh = meshes.make(mesh_config(data=2, context=4))
    enter, leave = moves(mesh, "context")
    x_BTD = np.random.default_rng(0).standard_normal((4, 16, 3))
    x_BTD = x_BTD.astype(np.float32)
    there = np.asarray(jax.jit(enter)(x_BTD))
    order = np.asarray(jax.jit(enter)(np.arange(16)[None]))[0]
    np.testing.assert_array_equal(there, x_BTD[:, order])
    np.testing.assert_array_equal(jax.jit(leave)(there), x_BTD)
