"""Every policy of recomputation has the gradients of "none", and keeps as much as it says."""

import functools

import jax
import numpy as np
import pytest

from gpt_jax import registry
from gpt_jax.errors import UserError
from gpt_jax.mesh import memory
from gpt_jax.model import remat
from tests.model.variants import config, model, parameters, terms_and_grad, tokens

POLICIES = registry.names("model.remat")
OTHERS = [name for name in POLICIES if name != "none"]
MECHANISMS = ["full(qk_norm='rms', softcap=4.0, sink=True)", "latent(rank=8, rope_dim=4)", "gated_delta"]
# In this order each keeps less: T is four times the width here, so that scores are the largest of what a layer has.
DECREASING = ("none", "selective", "dots", "attention", "full")


def gradients(**changes):
    c = config(dtype="float64", scan=True, **changes)
    with jax.enable_x64(True):
        params = jax.tree.map(lambda leaf: leaf.astype("float64"), parameters(c))
        found = terms_and_grad(c, params, tokens(c, 2, 12), jax.random.split(jax.random.key(3), 2))
        return jax.tree.map(np.asarray, found)


@functools.cache
def wanted(mechanism):
    return gradients(attention=mechanism, kv_heads=4, dropout=0.1)


@pytest.mark.every(4)
@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("name", OTHERS)
def test_gradients_are_those_of_none(name, mechanism):
    found = gradients(attention=mechanism, kv_heads=4, dropout=0.1, remat=name)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted(mechanism)), strict=True):
        assert np.linalg.norm(a - b) <= 1e-12 * np.linalg.norm(b)


@pytest.mark.every(3)
@pytest.mark.parametrize("backend", ["causal(rows=4)", "blockwise(block=4)", "pallas(interpret=True, block=16)"])
@pytest.mark.parametrize("name", ["selective", "attention"])
def test_gradients_of_every_kind_of_backend(name, backend):
    c, again = (config(attend=backend, position="rope(theta=100.0)", remat=r) for r in ("none", name))
    terms, grads = terms_and_grad(c, parameters(c), tokens(c, 2, 12))
    other, found = terms_and_grad(again, parameters(c), tokens(c, 2, 12))
    np.testing.assert_allclose(other, terms, rtol=1e-5)
    scale = max(np.abs(leaf).max() for leaf in jax.tree.leaves(grads))
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(grads), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5 * scale)


@functools.cache
def compiled(name, backend="xla"):
    c = config(
        scan=True, layers=16, width=32, heads=4, kv_heads=4, head_dim=8, mlp_width=128, context=128, attend=backend,
        position="rope(theta=100.0)", remat=name,
    )  # fmt: skip
    return terms_and_grad.lower(c, jax.eval_shape(lambda: parameters(c)), tokens(c, 2, 128)).compile()


def temporaries(name):
    return compiled(name).memory_analysis().temp_size_in_bytes


@pytest.mark.parametrize("more, less", list(zip(DECREASING, DECREASING[1:], strict=False)))
def test_memory_decreases_in_the_order_that_the_manual_gives(more, less):
    assert temporaries(less) < 0.95 * temporaries(more)


def test_selective_leaves_out_the_scores():
    """Of [L, B, N, T, S] elements in float32 each of what has been masked and of what has been weighed, one is left."""
    assert temporaries("none") - temporaries("selective") > 16 * 2 * 4 * 128 * 128 * 4


def flops(name):
    return compiled(name).cost_analysis()["flops"]


@pytest.mark.parametrize("less, more", list(zip(DECREASING, DECREASING[1:], strict=False)))
def test_work_increases_in_the_same_order(less, more):
    assert flops(less) < flops(more)


def kernels(name):
    c = config(attend="pallas(interpret=True, block=16)", position="rope(theta=100.0)", remat=name, layers=1)

    def loss(params):
        return model(c, params)(tokens(c, 1, 16)).sum()

    return str(jax.make_jaxpr(jax.grad(loss))(parameters(c))).count("pallas_call[")


def test_attention_does_not_run_a_kernel_again():
    assert kernels("none") == kernels("attention") == kernels("full") - 1


def test_what_is_offloaded_is_the_stream_that_enters_a_layer():
    c = config(remat="offload", scan=True)
    text = str(jax.make_jaxpr(jax.grad(lambda p: model(c, p)(tokens(c, 2, 12)).sum()))(parameters(c)))
    assert "f32<host>[2,2,12,16]" in text  # [L, B, T, D]


@pytest.mark.parametrize("name", POLICIES)
def test_what_moves_to_the_host_is_refused_where_there_is_no_memory_of_its_own(name):
    memory.check_offload(name, "gpu", {"device", "pinned_host"})
    for platform, kinds in (("gpu", {"device"}), ("cpu", {"device", "pinned_host"})):
        if not remat.policy(name).offloads:
            memory.check_offload(name, platform, kinds)
            continue
        with pytest.raises(UserError, match="pinned_host") as refused:
            memory.check_offload(name, platform, kinds)
        assert "full" in refused.value.allowed and name not in refused.value.allowed.split(", ")
