"""A vocabulary that devices along tensor do not divide."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from gpt_jax.mesh import mesh as meshes
from gpt_jax.mesh import rules
from gpt_jax.mesh.vocabulary import filled, filled_size
from gpt_jax.model.readout import Projection, logits_of
from gpt_jax.train import token_scores
from gpt_jax.train.losses import cross_entropy
from tests.mesh import parity
from tests.mesh.sizes import mesh_config

APART = {"model.tied": False, "model.bias": ("readout",), "model.logit_softcap": 5.0}


@pytest.mark.every(4)
@pytest.mark.parametrize("knobs", [{}, APART], ids=["tied", "apart, with a bias and a cap"])
@pytest.mark.parametrize("sizes", [{"tensor": 8}, {"data": 2, "fsdp": 2, "tensor": 2}], ids=str)
def test_a_step_is_the_step_of_one_device(sizes, knobs):
    with jax.enable_x64(True):
        knobs = {"model.vocab": 61, **knobs, **{f"mesh.{axis}": size for axis, size in sizes.items()}}
        wanted = parity.step(parity.alone(knobs), "plain", 1)
        loss, gradient = parity.differences(parity.step(knobs, "plain"), wanted)
    assert loss <= parity.LOSS and gradient <= parity.GRADIENT


def test_it_is_filled_up_to_what_divides():
    assert [filled_size(vocab, 8) for vocab in (64, 50304, 50257, 61)] == [64, 50304, 50304, 128]
    assert filled_size(50257, 1) == 50257 and filled_size(1000, 96) == 1152


def test_tables_are_read_filled_and_split_and_stored_as_they_are():
    mesh = meshes.make(mesh_config(fsdp=2, tensor=4))
    params = {
        "embed": {"tokens": {"w": jnp.ones((61, 16))}},
        "readout": {"w": jnp.ones((16, 61)), "bias": jnp.ones(61)},
    }
    stored = {row.path: row for row in rules.describe(params, mesh, "default", False)}
    assert stored["embed/tokens/w"].spec == P(None, ("fsdp", "tensor"))
    assert stored["readout/w"].spec == P(("fsdp", "tensor"))
    assert stored["embed/tokens/w"].bytes_per_device == 61 * 2 * 4
    assert stored["embed/tokens/w"].note == "61 does not divide over tensor=4"
    read = jax.jit(lambda params: filled(mesh, "default", params, 61))(params)
    assert read["embed"]["tokens"]["w"].shape == (128, 16) and read["readout"]["bias"].shape == (128,)
    assert read["readout"]["w"].sharding.spec == P("fsdp", "tensor")
    assert read["readout"]["w"][:, :61].all() and not read["readout"]["w"][:, 61:].any()


@pytest.mark.parametrize("sizes", [{"data": 8}, {"tensor": 1, "data": 8}])
def test_nothing_is_filled_where_nothing_has_to_be(sizes):
    params = {"embed": {"tokens": {"w": jnp.ones((61, 16))}}}
    assert filled(meshes.make(mesh_config(**sizes)), "default", params, 61) is params


def test_what_fills_it_up_is_never_likely():
    draw = np.random.default_rng(0)
    x_BTD, w_DV = draw.normal(size=(2, 6, 8)).astype("f"), draw.normal(size=(8, 61)).astype("f")
    targets_BT = draw.integers(0, 61, (2, 6))
    alone, more = Projection(w_DV, softcap=3.0), Projection(jnp.pad(w_DV, ((0, 0), (0, 3))), softcap=3.0, ids=61)

    def scores(projection):
        logits_BTV = logits_of(x_BTD, projection)
        return token_scores.policy(logits_BTV, targets_BT, 0.3), token_scores.hits(logits_BTV, targets_BT)

    def loss(w_DV, chunk):
        sums = cross_entropy(
            x_BTD,
            Projection(w_DV, softcap=3.0, ids=61),
            targets_BT,
            np.ones((2, 6), "f"),
            z_loss=0.1,
            chunk=chunk,
            shards=1,
        )
        return sums["objective"]

    assert jax.nn.softmax(logits_of(x_BTD, more))[..., 61:].max() == 0
    for found, wanted in zip(jax.tree.leaves(scores(more)), jax.tree.leaves(scores(alone)), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-5)
    for chunk in (0, 5):
        wanted, g_DV = jax.value_and_grad(loss)(w_DV, chunk)
        found, more_DV = jax.value_and_grad(loss)(more.w_DV, chunk)
        np.testing.assert_allclose(found, wanted, rtol=1e-6)
        np.testing.assert_allclose(more_DV[:, :61], g_DV, rtol=1e-5, atol=1e-7)
        assert not more_DV[:, 61:].any()
