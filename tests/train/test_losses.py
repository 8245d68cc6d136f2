"""Cross-entropy, whole and in chunks, against float64 NumPy with derivatives in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpt_jax.model.readout import Projection
from gpt_jax.train.losses import cross_entropy

B, T, D, V = 3, 10, 8, 21


@pytest.fixture(scope="module")
def inputs():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(B, T, D)).astype(np.float32)
    w = rng.normal(size=(D, V)).astype(np.float32)
    weights = (rng.random((B, T)) < 0.7).astype(np.float32)
    weights[1] *= 0.5
    return x, w, rng.integers(0, V, (B, T)), weights


def oracle(x, w, targets, weights, z):
    """(loss, z-loss, d/dx, d/dw) in float64: the logits' derivative is weight * (p (1 + 2 z log Z) - onehot)."""
    x, w, weights = (np.asarray(a, np.float64) for a in (x, w, weights))
    logits = x @ w
    top = logits.max(-1, keepdims=True)
    logz = (top + np.log(np.exp(logits - top).sum(-1, keepdims=True)))[..., 0]
    p, onehot = np.exp(logits - logz[..., None]), np.eye(w.shape[1])[targets]
    g = weights[..., None] * (p * (1 + 2 * z * logz[..., None]) - onehot)
    loss = (weights * (logz - (logits * onehot).sum(-1))).sum()
    return loss, (z * weights * logz**2).sum(), g @ w.T, np.einsum("btd,btv->dv", x, g)


def gradient(inputs, z=0.0, chunk=0, shards=1, scale=1.0):
    x, w, targets, weights = map(jnp.asarray, inputs)

    def objective(x, w):
        sums = cross_entropy(x, Projection(w), targets, weights, z_loss=z, chunk=chunk, shards=shards)
        return scale * sums["objective"], sums

    (_, sums), grads = jax.jit(jax.value_and_grad(objective, argnums=(0, 1), has_aux=True))(x, w)
    return sums, grads


# 30 = all at once; 12 and 9 = 4 and 3 positions at a time (both leave a rest of 10); 1 = a position at a time.
@pytest.mark.parametrize("chunk", [0, 30, 12, 9, 1])
@pytest.mark.parametrize("z", [0.0, 1e-2])
def test_values_and_derivatives(inputs, z, chunk):
    sums, (dx, dw) = gradient(inputs, z, chunk)
    loss, z_part, dx_ref, dw_ref = oracle(*inputs, z)
    np.testing.assert_allclose(sums["loss"], loss, rtol=1e-6)
    np.testing.assert_allclose(sums["z_loss"], z_part, rtol=1e-6)
    np.testing.assert_allclose(sums["objective"], loss + z_part, rtol=1e-6)
    assert float(sums["tokens"]) == inputs[3].sum()
    np.testing.assert_allclose(dx, dx_ref, atol=3e-6)
    np.testing.assert_allclose(dw, dw_ref, atol=1e-5)


@pytest.mark.parametrize("chunk", [30, 9])
def test_the_derivative_scales_with_what_follows(inputs, chunk):
    _, (dx, dw) = gradient(inputs, 1e-2, chunk, scale=0.125)
    _, _, dx_ref, dw_ref = oracle(*inputs, 1e-2)
    np.testing.assert_allclose(dx, dx_ref / 8, atol=1e-6)
    np.testing.assert_allclose(dw, dw_ref / 8, atol=2e-6)


@pytest.mark.parametrize("chunk", [30, 9])
def test_values_without_a_derivative_are_the_same(inputs, chunk):
    x, w, targets, weights = map(jnp.asarray, inputs)
    sums = cross_entropy(x, Projection(w), targets, weights, z_loss=1e-2, chunk=chunk, shards=1)
    loss, z_part, _, _ = oracle(*inputs, 1e-2)
    np.testing.assert_allclose([sums["loss"], sums["z_loss"]], [loss, z_part], rtol=1e-6)


@pytest.mark.parametrize("chunk", [30, 9])
def test_masked_tokens_have_no_part_in_it(inputs, chunk):
    x, w, targets, weights = inputs
    spoiled = np.where(weights == 0, (targets + 1) % V, targets)
    sums, (dx, dw) = gradient(inputs, 1e-2, chunk)
    sums_spoiled, (dx_spoiled, dw_spoiled) = gradient((x, w, spoiled, weights), 1e-2, chunk)
    np.testing.assert_array_equal(sums["loss"], sums_spoiled["loss"])
    np.testing.assert_array_equal(dw, dw_spoiled)
    assert not np.asarray(dx)[weights == 0].any() and not np.asarray(dx_spoiled)[weights == 0].any()


def test_micro_batches_of_unequal_valid_tokens_add_up(inputs):
    x, w, targets, weights = inputs
    assert len(set(weights.sum(1))) == B
    whole, (_, dw) = gradient(inputs)
    parts = [gradient((x[i : i + 1], w, targets[i : i + 1], weights[i : i + 1])) for i in range(B)]
    for name in ("loss", "tokens"):
        np.testing.assert_allclose(sum(sums[name] for sums, _ in parts), whole[name], rtol=1e-6)
    np.testing.assert_allclose(sum(grads[1] for _, grads in parts), dw, atol=1e-5)


@pytest.mark.parametrize("chunk", [30, 9])
def test_large_logits_do_not_overflow(inputs, chunk):
    x, w, targets, weights = inputs
    sums, (dx, dw) = gradient((100 * x, w, targets, weights), 0.0, chunk)
    np.testing.assert_allclose(sums["loss"], oracle(100 * x, w, targets, weights, 0.0)[0], rtol=1e-5)
    assert np.isfinite(dx).all() and np.isfinite(dw).all()


@pytest.mark.parametrize("chunk", [30, 9])
def test_bfloat16_activations_have_a_float32_softmax(inputs, chunk):
    x, w, targets, weights = inputs
    x16, w16 = jnp.asarray(x, jnp.bfloat16), np.asarray(jnp.asarray(w, jnp.bfloat16), np.float32)
    sums, (dx, dw) = gradient((x16, w, targets, weights), 0.0, chunk)
    loss, _, dx_ref, dw_ref = oracle(np.asarray(x16, np.float32), w16, targets, weights, 0.0)
    assert dx.dtype == jnp.bfloat16 and dw.dtype == jnp.float32 and sums["loss"].dtype == jnp.float32
    np.testing.assert_allclose(sums["loss"], loss, rtol=1e-5)  # a bfloat16 softmax is off by 1e-3
    np.testing.assert_allclose(np.asarray(dx, np.float32), dx_ref, atol=0.05)
    np.testing.assert_allclose(dw, dw_ref, atol=0.1)


def test_chunks_need_less_memory_than_all_logits():
    shapes = [
        jax.ShapeDtypeStruct(s, d)
        for s, d in (((2, 256, 16), "f4"), ((16, 4096), "f4"), ((2, 256), "i4"), ((2, 256), "f4"))
    ]

    def temporaries(chunk):
        def objective(x, w, targets, weights):
            return cross_entropy(x, Projection(w), targets, weights, z_loss=1e-4, chunk=chunk, shards=1)["objective"]

        compiled = jax.jit(jax.grad(objective, argnums=(0, 1))).lower(*shapes).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    logits = 2 * 256 * 4096 * 4
    assert temporaries(512) >= logits
    assert temporaries(32) < logits / 2


def test_a_chunk_counts_the_tokens_of_one_device(inputs):
    def program(shards):
        def loss(x, w, *rest):
            return cross_entropy(x, Projection(w), *rest, z_loss=0.0, chunk=10, shards=shards)

        return str(jax.make_jaxpr(loss)(*inputs))

    text = [program(shards) for shards in (1, 3)]
    assert "scan" in text[0] and "scan" not in text[1]
