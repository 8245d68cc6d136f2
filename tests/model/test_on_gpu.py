"""What is computed in another way on a GPU, computed here: the values and derivatives of the way that a CPU takes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from gpt_jax import registry
from gpt_jax.model import gpt
from gpt_jax.model.attend import AttentionSpec, Backend, _told_apart
from gpt_jax.model.layout import stack
from gpt_jax.model.linear import spread
from gpt_jax.model.lookup import lookup, sum_by_token
from gpt_jax.model.mlp.activations import gelu
from gpt_jax.model.norm import LayerNorm
from gpt_jax.model.readout import Projection
from gpt_jax.train import losses
from tests.model.variants import config

RANDOM = np.random.default_rng(0)


def normal(*shape, dtype="float32"):
    return jnp.asarray(RANDOM.standard_normal(shape), dtype)


@pytest.fixture
def on_gpu(monkeypatch):
    """Values and gradients of a function of arrays, on a CPU and in a GPU's way."""

    def both(function, *arrays):
        def all_of():
            jax.clear_caches()

            @jax.jit
            def values(*arrays):
                y, pull = jax.vjp(function, *arrays)
                return y, pull(jnp.cos(y.astype(jnp.float32)).astype(y.dtype))

            return jax.tree.leaves(values(*arrays))

        here = all_of()
        monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
        there = all_of()
        monkeypatch.undo()
        return here, there

    yield both
    jax.clear_caches()


def close(pair, tolerance=2e-5):
    for here, there in zip(*pair, strict=True):
        assert here.dtype == there.dtype
        np.testing.assert_allclose(here, there, atol=tolerance, rtol=tolerance)


def test_gelu(on_gpu):
    close(on_gpu(gelu, jnp.linspace(-9, 9, 501)))
    assert jnp.isfinite(gelu(jnp.array([-1e4, 1e4]))).all()


def test_layer_norm(on_gpu):
    def call(x, scale, bias):
        norm = LayerNorm(24, config())
        norm.scale, norm.bias = nnx.Param(scale), nnx.Param(bias)
        return norm(x)

    arrays = normal(24), normal(24)
    close(on_gpu(call, 5 + 3 * normal(3, 5, 24), *arrays))
    close(on_gpu(call, jnp.full((1, 2, 24), 1e4) + normal(1, 2, 24), *arrays), 2e-2)  # one pass, and no cancellation


def test_spreading_positions(on_gpu):
    close(on_gpu(lambda w: spread(w, (3, 5, 8)), normal(5, 8)))


@pytest.mark.parametrize("count, rows, most", [(1000, 37, 37), (640, 500, 2), (5, 7, 7), (400, 3, 1)])
def test_the_gradient_of_a_lookup(count, rows, most, on_gpu):
    """Tokens with rows in many tiles, in one, and in none."""
    tokens, g = jnp.asarray(RANDOM.integers(most, size=count), jnp.int32), normal(count, 6)
    want = np.zeros((rows, 6))
    np.add.at(want, np.asarray(tokens), np.float64(g))
    np.testing.assert_allclose(jax.jit(sum_by_token, static_argnums=2)(tokens, g, rows), want, atol=2e-5)
    here, there = on_gpu(lambda w: lookup(w, tokens[None], jnp.dtype("bfloat16")), normal(rows, 6))
    np.testing.assert_array_equal(here[0], there[0])
    np.testing.assert_allclose(here[1], there[1], atol=1e-5)
    text = jax.jit(sum_by_token, static_argnums=2).lower(tokens, g, rows).as_text()
    assert text.count('"stablehlo.scatter"(') == text.count("unique_indices = true") == 1


@pytest.mark.parametrize("chunk", [0, 24, 10])
def test_the_loss(chunk, on_gpu):
    targets, weights = jnp.asarray(RANDOM.integers(40, size=(4, 12))), jnp.asarray(RANDOM.random((4, 12)), jnp.float32)

    def loss(x, w, bias):
        projection = Projection(w, bias, softcap=20.0)
        return losses.cross_entropy(x, projection, targets, weights, z_loss=1e-2, chunk=chunk, shards=2)["objective"]

    close(on_gpu(loss, 3 * normal(4, 12, 8), 5 * normal(8, 40), normal(40)), 1e-4)


def test_chunks_are_equal_and_fill_the_units(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert losses._positions((1, 32 * 1024), 21345, 1) == 2**14
    assert losses._positions((1, 3000), 1400, 1) == 1000  # no divisor fills them
    assert losses._positions((1, 1021), 1000, 1) == 1000  # a prime: the last chunk is filled up


def test_layers_in_line_are_those_of_a_scan():
    """Stacked weights, and gradients in their shape."""
    small, tokens = {"layers": 2, "attention": "full"}, jnp.arange(8)[None] % 5
    apart, stacked, line = (config(**small, scan=scan) for scan in (False, True, 2))
    params = gpt.init(apart, jax.random.key(0))

    def loss(c, p):
        return jnp.square(nnx.merge(gpt.graphdef(c), p)(tokens)).mean()

    want = stack(jax.jit(jax.grad(lambda p: loss(apart, p)))(params), 1)
    whole = stack(params, 1)
    for c in (stacked, line):
        got = jax.jit(jax.grad(lambda p, c=c: loss(c, p)))(whole)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6, rtol=1e-4), got, want)
    loops = [str(jax.make_jaxpr(lambda p, c=c: loss(c, p))(whole)).count("scan[") for c in (stacked, line)]
    assert loops == [1, 0]


def test_scales_that_tell_layers_apart_are_the_same_number():
    spec = AttentionSpec(scale=0.125)
    scales = [_told_apart(spec, layer, jnp.dtype("bfloat16")).scale for layer in range(1000)]
    assert len(set(scales)) == 1000 and {float(np.float32(scale)) for scale in scales} == {0.125}
    assert _told_apart(spec, 3, jnp.dtype("float32")) == spec


@pytest.mark.parametrize("remat", registry.names("model.remat"))
def test_layers_in_line_are_told_apart_whatever_is_recomputed(remat, monkeypatch):
    scales = set()

    def run(spec, q_BNTH, k_BKSH, v_BKSJ, queries, keys, extras, drop):
        scales.add(spec.scale)
        return q_BNTH

    monkeypatch.setitem(registry._variants, ("model.attend", "noting"), lambda: Backend("noting", run))
    c = config(attention="full", attend="noting", dtype="bfloat16", layers=3, remat=remat)
    params = jax.eval_shape(lambda: gpt.init(c, jax.random.key(0)))
    jax.eval_shape(lambda p: nnx.merge(gpt.graphdef(c), p)(jnp.zeros((1, 8), jnp.int32)), params)
    assert len(scales) == 3
