"""Positions, norms and activations against their formulas in float64; positions beyond the trained context."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from gpt_jax import registry
from gpt_jax.errors import UserError
from gpt_jax.model.attend import Reach
from gpt_jax.model.mlp.activations import ACTIVATIONS, GATES
from gpt_jax.model.norm import HeadNorm
from gpt_jax.model.position import Position, alibi, back, scaling, sinusoidal, t5
from gpt_jax.model.where import Where
from tests.model import oracle
from tests.model.variants import config, logits, parameters, tokens

X = np.random.default_rng(0).standard_normal((2, 5, 16)).astype(np.float32) * 3


def test_sinusoids():
    """Vaswani et al. 2017: PE(t, 2i) = sin(t / 10000^(2i/D)), PE(t, 2i+1) = cos of the same."""
    table = np.asarray(sinusoidal.table(jnp.array([[0, 1, 700]]), 6, 10000.0))[0]
    for row, t in zip(table, (0, 1, 700), strict=True):
        for i in range(3):
            angle = t / 10000 ** (2 * i / 6)
            np.testing.assert_allclose(row[2 * i : 2 * i + 2], [math.sin(angle), math.cos(angle)], atol=1e-4)


@pytest.mark.parametrize("heads", [8, 16, 12, 1])
def test_alibis_slopes(heads):
    slopes = alibi.slopes(heads)
    assert len(slopes) == heads and np.all(slopes > 0)
    if heads & (heads - 1) == 0:
        np.testing.assert_allclose(slopes, [2 ** (-8 * (i + 1) / heads) for i in range(heads)], rtol=1e-6)
    else:
        np.testing.assert_allclose(slopes[:8], [2.0 ** -(i + 1) for i in range(8)], rtol=1e-6)
        np.testing.assert_allclose(slopes[8:], [2.0 ** -(i + 0.5) for i in range(4)], rtol=1e-6)


def test_t5s_buckets():
    back = np.arange(200)
    got = np.asarray(t5.bucket(jnp.asarray(back), 32, 128))
    assert got.tolist() == [oracle.t5_bucket(d, 32, 128) for d in back]
    assert got[15] == 15 and got[16] == 16 and got[127] == 31 and got[199] == 31


def turned(call: str, x, positions, head_dim=8) -> np.ndarray:
    scheme = registry.build("model.position", call, config(head_dim=head_dim), nnx.Rngs(0))
    return np.asarray(scheme.rotate(jnp.asarray(x), jnp.asarray(positions)))


def test_scores_see_distances_alone():
    q, k = np.random.default_rng(1).standard_normal((2, 1, 1, 1, 8)).astype(np.float32)
    for call in ("rope", "rope(interleaved=True)", "rope(fraction=0.5)"):
        scores = [(turned(call, q, [[t + 9]]) * turned(call, k, [[t]])).sum() for t in (0, 1, 50)]
        np.testing.assert_allclose(scores, scores[0], atol=1e-4)


def test_a_scheme_that_defines_a_bias_gets_it_added(monkeypatch):
    class Nearest(Position):
        def __init__(self, config, rngs): ...

        def bias(self, queries, keys):
            return -30.0 * back(queries, keys)[:, None].astype(jnp.float32)

    monkeypatch.setitem(registry._variants, ("model.position", "nearest"), Nearest)
    c, row = config(position="nearest", layers=1), tokens(config(), 1, 6)
    changed = np.where(np.arange(6) == 0, (row + 1) % c.vocab, row)
    before, after = (np.asarray(logits(c, parameters(c), tokens_BT)) for tokens_BT in (row, changed))
    np.testing.assert_allclose(before[0, 2:], after[0, 2:], atol=1e-6)  # each token sees itself alone


@pytest.mark.parametrize(
    "attention, backend",
    [("full", "blockwise(block=4)"), ("full", "cudnn(interpret=True)"), ("differential", "blockwise(block=4)")],
)
def test_a_bias_may_be_one_for_all_heads(attention, backend, monkeypatch):
    class Shared(Position):
        def __init__(self, config, rngs): ...

        def bias(self, queries, keys):
            return -back(queries, keys)[:, None].astype(jnp.float32)

    monkeypatch.setitem(registry._variants, ("model.position", "shared"), Shared)
    found = []
    for call in ("xla", backend):
        c = config(position="shared", layers=1, attention=attention, attend=call)
        found.append(np.asarray(logits(c, parameters(c), tokens(c, 2, 9))))
    np.testing.assert_allclose(*found, atol=1e-5)


def test_part_of_the_channels_turn():
    x = np.random.default_rng(2).standard_normal((1, 1, 4, 8)).astype(np.float32)
    got = turned("rope(fraction=0.5, theta=50.0)", x, [[0, 1, 2, 3]])
    np.testing.assert_array_equal(got[..., 4:], x[..., 4:])
    np.testing.assert_allclose(got[..., :4], oracle.rotate(np.float64(x[..., :4]), np.arange(4), 50.0), atol=1e-5)


def test_scaled_frequencies():
    plain, _ = scaling.frequencies(10000.0, 64, scaling.Scaling())
    linear, _ = scaling.frequencies(10000.0, 64, scaling.Scaling("linear", 4.0, 2048))
    np.testing.assert_allclose(linear, plain / 4, rtol=1e-6)
    ntk, _ = scaling.frequencies(10000.0, 64, scaling.Scaling("ntk", 4.0, 2048))
    assert ntk[0] == 1 and ntk[-1] == pytest.approx(plain[-1] / 4, rel=1e-5)
    for kind, high in (("yarn", 32.0), ("llama3", 4.0)):
        mixed, size = scaling.frequencies(10000.0, 64, scaling.Scaling(kind, 8.0, 2048, 1.0, high))
        turns = 2048 * plain / (2 * np.pi)
        np.testing.assert_allclose(mixed[turns > 1.5 * high], plain[turns > 1.5 * high], rtol=1e-6)
        np.testing.assert_allclose(mixed[turns < 0.6], plain[turns < 0.6] / 8, rtol=1e-6)
        assert np.all(np.diff(mixed) < 0)
        assert size == pytest.approx(0.1 * math.log(8) + 1 if kind == "yarn" else 1)


@pytest.mark.parametrize("position", ["sinusoidal", "rope", "alibi", "t5", "fire", "none"])
def test_positions_reach_beyond_the_context(position):
    """A model made for 24 positions reads 60: its first logits are those of a shorter text."""
    c = config(position=position, layers=1)
    long = tokens(c, 1, 60)
    got = np.asarray(logits(c, parameters(c), long))
    assert np.all(np.isfinite(got))
    np.testing.assert_allclose(got[:, :20], logits(c, parameters(c), long[:, :20]), atol=2e-5)


def test_learned_positions_end_with_the_context():
    c = config(position="learned", layers=1)
    with pytest.raises(UserError, match="60 tokens, and learned positions for 24"):
        logits(c, parameters(c), tokens(c, 1, 60))


def test_positions_of_keys_are_counted_from_each_rows_first_token():
    held_BS = jnp.array([[0, 1, 2, 3, 4, -1, -1, -1], [-1, -1, -1, 0, 1, -1, -1, -1]])
    where = Where(positions_BT=jnp.array([[3, 4], [0, 1]]), start=3, held={8: held_BS})
    np.testing.assert_array_equal(where.keys(8).position_BT[:, 3:5], where.queries(2).position_BT)
    seen = np.asarray(Reach(window=2).visible(where.queries(2), where.keys(8)))
    assert seen[0].nonzero()[1].tolist() == [2, 3, 3, 4] and seen[1].nonzero()[1].tolist() == [3, 3, 4]


def norm(call: str, **parameters) -> np.ndarray:
    """The norm of X, with parameters set."""
    module = registry.build("model.norm", call, 16, config())
    for name, value in parameters.items():
        getattr(module, name)[...] = jnp.asarray(value)
    return np.asarray(jax.jit(module)(X))


def test_norms():
    x, scale, bias = np.float64(X), np.linspace(0.5, 2, 16), np.linspace(-1, 1, 16)
    rms = x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(norm("rmsnorm", scale=scale), rms * scale, atol=1e-5)
    np.testing.assert_allclose(norm("rmsnorm(plus_one=True)", scale=scale), rms * (scale + 1), atol=1e-5)
    np.testing.assert_allclose(norm("rmsnorm(bias=True)", scale=scale, bias=bias), rms * scale + bias, atol=1e-5)
    np.testing.assert_allclose(norm("rmsnorm(scale=False)"), rms, atol=1e-5)
    right = np.tanh(0.3 * x) * scale + bias
    np.testing.assert_allclose(norm("dyt", alpha=0.3, scale=scale, bias=bias), right, atol=1e-5)
    np.testing.assert_array_equal(norm("none"), X)


def test_head_norms():
    x = np.float64(X).reshape(2, 5, 4, 4)
    length = np.sqrt((x**2).sum(-1, keepdims=True))
    np.testing.assert_allclose(HeadNorm("l2", 4)(jnp.float32(x)), x / length, atol=1e-5)
    np.testing.assert_allclose(HeadNorm("rms_plain", 4)(jnp.float32(x)), x / (length / 2), atol=1e-5)
    np.testing.assert_array_equal(HeadNorm("none", 4)(jnp.float32(x)), np.float32(x))


def phi(x: np.ndarray) -> np.ndarray:
    return np.array([0.5 * (1 + math.erf(v / math.sqrt(2))) for v in x.ravel()]).reshape(x.shape)


def gelu(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


SILU = lambda x: x * oracle.sigmoid(x)
FORMULAS = {
    "gelu": gelu,
    "gelu_erf": lambda x: x * phi(x),
    "relu": lambda x: np.maximum(x, 0),
    "relu2": lambda x: np.maximum(x, 0) ** 2,
    "tanh": np.tanh,
    "silu": SILU,
}
UNITS = {
    "swiglu": lambda g, u: SILU(g) * u,
    "geglu": lambda g, u: gelu(g) * u,
    "geglu_erf": lambda g, u: g * phi(g) * u,
    "reglu": lambda g, u: np.maximum(g, 0) * u,
    "glu": lambda g, u: oracle.sigmoid(g) * u,
    "bilinear": lambda g, u: g * u,
    "clamped_swiglu": lambda g, u: (
        (np.clip(u, -7, 7) + 1) * np.minimum(g, 7) * oracle.sigmoid(1.702 * np.minimum(g, 7))
    ),
}


def test_every_activation_has_its_formula_here():
    assert set(FORMULAS) == set(ACTIVATIONS) and set(UNITS) == set(GATES)


@pytest.mark.parametrize("name", [*FORMULAS, *UNITS])
def test_feed_forward_networks(name):
    random = np.random.default_rng(3)
    module = registry.build("model.mlp", name, config(), nnx.Rngs(params=0))
    graphdef, state = nnx.split(module)
    p = jax.tree.map(lambda a: random.standard_normal(a.shape).astype(np.float32), nnx.to_pure_dict(state))
    got, report = jax.jit(lambda p, x: nnx.merge(graphdef, p)(x, Where()))(p, X)
    up = np.float64(X) @ p["up"]["w"] + p["up"]["bias"]
    hidden = UNITS[name](X @ np.float64(p["gate"]["w"]) + p["gate"]["bias"], up) if "gate" in p else FORMULAS[name](up)
    right = hidden @ p["down"]["w"] + p["down"]["bias"]
    np.testing.assert_allclose(got, right, atol=1e-4 * np.abs(right).max())
    assert report == {}


@pytest.mark.parametrize("name", ["normal", "xavier", "small", "deepnorm"])
def test_parametrisations(name):
    c = config(layers=3, width=64)
    scheme = registry.build("model.init", name, c)
    right = {
        "normal": (0.02, 0.02, 0.02),
        "xavier": (math.sqrt(2 / 80), math.sqrt(2 / 80), math.sqrt(2 / 80)),
        "small": (math.sqrt(2 / 320), math.sqrt(2 / 320), 2 / (3 * 8)),
        "deepnorm": (math.sqrt(2 / 80), math.sqrt(2 / 80) * 24**-0.25, math.sqrt(2 / 80) * 24**-0.25),
    }[name]
    got = [scheme.std(role, 64, 16) for role in ("query", "linear", "residual")]
    assert got == pytest.approx(right)
