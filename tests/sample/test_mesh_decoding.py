"""Decoding on a mesh of 8 virtual devices: the tokens of one device, with rows, heads and channels split."""

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from gpt_jax.mesh import mesh as meshes
from gpt_jax.mesh import rules
from gpt_jax.sample import calls, rows
from gpt_jax.sample.decode import Decoder, Sampling
from tests.mesh.sizes import mesh_config
from tests.model.variants import config, parameters

MESHES = [{"data": 8}, {"tensor": 2, "data": 4}, {"fsdp": 2, "tensor": 2, "data": 2}]
NEW = 9
C = config(context=48, mlp="swiglu", kv_heads=2, layers=1)


def mesh_of(**axes):
    return meshes.make(mesh_config(**axes))


def prompts(lengths):
    random = np.random.default_rng(0)
    return [random.integers(C.vocab, size=length).tolist() for length in lengths]


def write(decoder, lengths=(5, 1, 17, 8, 3, 2, 9, 4, 11), **asked):
    given = prompts(lengths)
    return decoder.generate(given, max_new_tokens=NEW, sampling=Sampling(), seeds=range(len(given)), **asked)


@pytest.fixture(scope="module")
def alone():
    return write(Decoder(C, parameters(C)))


def on(mesh, params=None):
    params = parameters(C) if params is None else params
    return Decoder(C, jax.device_put(params, rules.shardings(params, mesh, "default", scanned=False)))


def assert_same(got, expected):
    assert got.tokens == expected.tokens
    for ours, theirs in zip(got.logprobs, expected.logprobs, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4)


@pytest.mark.parametrize("axes", MESHES, ids=str)
def test_tokens_are_those_of_one_device(axes, alone):
    """Ragged prompts, a number of rows that does not divide."""
    mesh = mesh_of(**axes)
    decoder = on(mesh)
    assert decoder.mesh == mesh
    assert_same(write(decoder), alone)


def test_rows_are_replaced_and_a_single_one_is_replicated(alone):
    decoder = on(mesh_of(fsdp=2, tensor=2, data=2))
    assert write(decoder, rows=4).tokens == alone.tokens
    assert write(decoder, (5,)).tokens == alone.tokens[:1]


def test_weights_rows_and_heads_are_split():
    """Each device has its share of every matrix and of the cache, after a call of the loop too."""
    decoder = on(mesh_of(fsdp=2, tensor=2, data=2))
    pieces = [w["w"].sharding.shard_shape(w["w"].shape)[0] / len(w["w"]) for w in decoder.weights["groups"]]
    assert set(pieces) == {0.5}
    asked = rows.Asked(prompts([5] * 8), [NEW] * 8, [Sampling()] * 8, range(8))
    made = calls.Calls(decoder, asked, (), 0, 8)
    for state in (made.state, made.until(0) and made.state):
        for leaf in jax.tree.leaves(state["cache"]["blocks"]):
            assert leaf.sharding.shard_shape(leaf.shape)[:2] == (2, C.kv_heads // 2)
        assert state["tokens_BS"].sharding.shard_shape(state["tokens_BS"].shape)[0] == 2


def test_a_mesh_can_be_given():
    """To parameters that are on one device."""
    mesh = mesh_of(tensor=2, data=4)
    decoder = Decoder(C, parameters(C), mesh=mesh)
    assert all(leaf.sharding.mesh == mesh for leaf in jax.tree.leaves(decoder.weights) if leaf.size)
    assert decoder.weights["groups"][0]["w"].sharding.spec == PartitionSpec(("tensor",))
