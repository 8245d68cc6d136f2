"""Activations, norms and products against float64 NumPy, their derivatives, initial values and parameter counts."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from gpt_jax import registry
from gpt_jax.model import gpt
from gpt_jax.model.linear import matmul, spread
from gpt_jax.model.mlp.activations import gelu
from tests import xla
from tests.model.variants import config, parameters

RANDOM = np.random.default_rng(0)


def normal(*shape):
    return RANDOM.standard_normal(shape).astype(np.float32)


@xla.as_users
def test_gelu_and_its_derivative():
    x = np.linspace(-8, 8, 2001)

    def exact(x):
        return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))

    np.testing.assert_allclose(gelu(jnp.float32(x)), exact(x), atol=1e-6)
    with jax.enable_x64(True):
        slope = jax.vmap(jax.grad(gelu))(jnp.float64(x))
        np.testing.assert_allclose(slope, (exact(x + 1e-5) - exact(x - 1e-5)) / 2e-5, atol=1e-9)
        check_grads(gelu, (jnp.float64(normal(5)),), order=2, modes=["fwd", "rev"], atol=1e-6, rtol=1e-6)
    narrow = jax.vmap(jax.grad(gelu))(jnp.float32(x))
    np.testing.assert_allclose(narrow, slope, atol=5e-6)  # 1 + tanh is 0 in float32 where the slope is still -3e-6
    _, forward = jax.jvp(gelu, (jnp.float32(x),), (jnp.ones(len(x), jnp.float32),))
    np.testing.assert_array_equal(forward, narrow)


@pytest.mark.parametrize("d, f", [(6, 10), (10, 6), (7, 7)])
@pytest.mark.parametrize("dtype, tolerance", [("float32", 1e-5), ("bfloat16", 3e-2)])
def test_matmul_and_its_derivatives(d, f, dtype, tolerance):
    """Both branches of the weight gradient: the narrower operand is the one that is transposed."""
    x, w, g = (jnp.asarray(normal(*shape), dtype) for shape in ((2, 5, d), (d, f), (2, 5, f)))
    y, back = jax.vjp(matmul, x, w)
    dx, dw = back(g)
    wide = [np.asarray(a, np.float64) for a in (x, w, g)]
    np.testing.assert_allclose(np.float64(y), wide[0] @ wide[1], atol=tolerance * f)
    np.testing.assert_allclose(np.float64(dx), wide[2] @ wide[1].T, atol=tolerance * f)
    np.testing.assert_allclose(np.float64(dw), np.einsum("btd,btf->df", wide[0], wide[2]), atol=tolerance * 10)
    assert dx.dtype == x.dtype and dw.dtype == w.dtype


@pytest.mark.parametrize("own", [(6,), (3, 4), (5, 6)])
@pytest.mark.parametrize("dtype, tolerance", [("float32", 1e-5), ("bfloat16", 3e-2)])
def test_spreading_and_its_derivative(own, dtype, tolerance, monkeypatch):
    shape = (7, 5, *own[own[0] == 5 :])
    v, g = jnp.asarray(normal(*own), dtype), jnp.asarray(normal(*shape), dtype)
    y, back = jax.vjp(lambda v: spread(v, shape), v)
    np.testing.assert_array_equal(y, np.broadcast_to(v, shape))
    (dv,) = back(g)
    lead = tuple(range(len(shape) - len(own)))
    np.testing.assert_allclose(np.float64(dv), np.asarray(g, np.float64).sum(lead), atol=tolerance * 10)
    assert dv.dtype == v.dtype and dv.shape == v.shape
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    (plain,) = jax.vjp(lambda v: spread(v, shape), v)[1](g)
    np.testing.assert_allclose(np.float64(dv), np.float64(plain), atol=tolerance * 10)


def test_layernorm():
    c = config()
    norm = registry.build("model.norm", "layernorm", c.width, c)
    x = normal(3, 5, c.width) * 3 + 1
    wide = x.astype(np.float64)
    centred = wide - wide.mean(-1, keepdims=True)
    np.testing.assert_allclose(norm(x), centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5), atol=1e-5)


def initial(c):
    return jax.jit(gpt.init, static_argnums=0)(c, jax.random.key(0))


def test_gpt2_initial_values():
    c = config(layers=6, width=64, heads=4, kv_heads=4, head_dim=16, mlp_width=256, vocab=500, context=200, tied=False)
    params = initial(c)
    residual = 0.02 / math.sqrt(2 * 6)
    for path, leaf in jax.tree_util.tree_flatten_with_path(params)[0]:
        name = "/".join(key.key for key in path)
        if name.endswith("scale"):
            assert np.all(leaf == 1), name
        elif name.endswith("bias"):
            assert np.all(leaf == 0), name
        else:
            std = 0.01 if "position" in name else residual if name.endswith(("attention/out/w", "mlp/down/w")) else 0.02
            assert abs(float(leaf.std()) / std - 1) < 5 / math.sqrt(2 * leaf.size), name
            assert abs(float(leaf.mean())) < 5 * std / math.sqrt(leaf.size), name


def test_no_two_matrices_start_alike():
    leaves = [np.asarray(leaf).reshape(-1)[:8] for leaf in jax.tree.leaves(initial(config())) if leaf.std() > 0]
    values = np.stack([leaf / np.linalg.norm(leaf) for leaf in leaves])
    similarity = np.abs(values @ values.T - np.eye(len(values)))
    assert similarity.max() < 0.999


GPT2 = {"heads": 12, "vocab": 50257, "context": 1024, "bias": True}
NANO = {"bias": False}
COUNTS = [
    ({"layers": 12, "width": 768, **GPT2}, 124_439_808),
    ({"layers": 24, "width": 1024, **GPT2, "heads": 16}, 354_823_168),
    ({"layers": 36, "width": 1280, **GPT2, "heads": 20}, 774_030_080),
    ({"layers": 48, "width": 1600, **GPT2, "heads": 25}, 1_557_611_200),
    ({"layers": 12, "width": 768, **GPT2, **NANO}, 124_337_664),
    ({"layers": 6, "width": 384, "heads": 6, "vocab": 65, "context": 256, **NANO}, 10_745_088),
    ({"layers": 4, "width": 128, "heads": 4, "vocab": 65, "context": 64, **NANO}, 804_096),
]


@pytest.mark.parametrize("sizes, expected", COUNTS, ids=[str(count) for _, count in COUNTS])
@pytest.mark.parametrize("scan", [False, True])
def test_parameter_counts(sizes, expected, scan):
    width, heads = sizes["width"], sizes["heads"]
    c = config(**sizes, kv_heads=heads, head_dim=width // heads, mlp_width=4 * width, scan=scan)
    shapes = jax.eval_shape(functools.partial(gpt.init, c), jax.random.key(0))
    assert sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes)) == expected


@pytest.mark.parametrize(
    "changes, gone",
    [
        ({"bias": False}, "bias"),
        ({"position": "none"}, "position"),
        ({"tied": True}, "readout"),
    ],
)
def test_options_leave_parameters_out(changes, gone):
    paths = {
        key.key for path, _ in jax.tree_util.tree_flatten_with_path(parameters(config(**changes)))[0] for key in path
    }
    assert gone not in paths
