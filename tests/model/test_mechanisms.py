"""Attention mechanisms against NumPy in float64, written from their papers' formulas, token by token."""

import jax
import numpy as np
import pytest
from flax import nnx

from gpt_jax import registry
from gpt_jax.errors import UserError
from gpt_jax.model.attend import AttentionSpec, Reach
from gpt_jax.model.position.none import Nothing
from gpt_jax.model.position.rope import Rope
from gpt_jax.model.where import Where
from tests.model import oracle
from tests.model.variants import config

B, T = 2, 9
SEGMENTS = np.array([[1, 1, 1, 1, 2, 2, 2, 2, 2], [1, 2, 2, 2, 2, 2, 2, 3, 3]])
STARTS = np.array([[0, 0, 0, 0, 4, 4, 4, 4, 4], [0, 1, 1, 1, 1, 1, 1, 7, 7]])


def built(call: str, seed: int = 0, **changes) -> tuple:
    """A mechanism with random parameters, and these by path, in float64."""
    random = np.random.default_rng(seed)
    c = config(attention=call, position="none", **changes)
    module = registry.build("model.attention", call, c, nnx.Rngs(params=0))
    graphdef, state = nnx.split(module)
    values = jax.tree.map(lambda a: (0.5 * random.standard_normal(a.shape)).astype(np.float32), nnx.to_pure_dict(state))
    flat = {"/".join(map(str, path)): np.float64(leaf) for path, leaf in nnx.traversals.flatten_mapping(values).items()}
    return c, nnx.merge(graphdef, values), flat


def run(module, x, position=None, **where) -> np.ndarray:
    place = Where(position=position or Nothing(None, None), **where)
    return np.asarray(jax.jit(lambda x: module(x, place, None)[0])(x))


def stream(width: int) -> np.ndarray:
    return np.random.default_rng(5).standard_normal((B, T, width)).astype(np.float32)


def heads(x: np.ndarray, p: dict, name: str) -> np.ndarray:
    """[B, N, T, H]"""
    y = np.einsum("btd,dnh->btnh", np.float64(x), p[f"{name}/w"]) + p.get(f"{name}/bias", 0)
    return y.swapaxes(1, 2)


def out(y_BNTH: np.ndarray, p: dict) -> np.ndarray:
    return np.einsum("bnth,nhd->btd", y_BNTH, p["out/w"]) + p.get("out/bias", 0)


def gated(x: np.ndarray, p: dict, function) -> np.ndarray:
    return function(np.einsum("btd,dnh->btnh", np.float64(x), p["gate/w"])).swapaxes(1, 2)


CLOSE = dict(atol=2e-5, rtol=2e-5)
PACKED = {"segments_BT": SEGMENTS, "positions_BT": np.arange(T) - STARTS}


@pytest.mark.parametrize("packed", [{}, PACKED], ids=["whole", "packed"])
@pytest.mark.parametrize(
    "call, reach",
    [
        ("full", Reach()),
        ("sliding(window=3)", Reach(window=3)),
        ("chunked(size=4)", Reach(chunk=4)),
        ("strided(stride=3)", Reach(stride=3)),
    ],
)
def test_softmax_attention(call, reach, packed):
    c, module, p = built(call)
    x = stream(c.width)
    y = oracle.attention(AttentionSpec(scale=0.5, reach=reach), *(heads(x, p, name) for name in "qkv"), Where(**packed))
    np.testing.assert_allclose(run(module, x, **packed), out(y, p), **CLOSE)


def test_options_of_softmax_attention():
    c, module, p = built("full(qk_norm='rms', softcap=1.5, sink=True, gate=True, head_scale=True, scale=0.4)")
    x = stream(c.width)
    q, k = (oracle.rms(heads(x, p, name), 1e-6) * p[f"{name}_norm/scale"] for name in "qk")
    spec = AttentionSpec(scale=0.4, softcap=1.5)
    y = oracle.attention(spec, q, k, heads(x, p, "v"), Where(), sink=p["sink"])
    y *= p["head_scale"][:, None, None] * gated(x, p, oracle.sigmoid)
    np.testing.assert_allclose(run(module, x), out(y, p), **CLOSE)


@pytest.mark.parametrize("interleaved", [False, True])
def test_rotary_positions_of_queries_and_keys(interleaved):
    c, module, p = built("full(qk_norm='l2')")
    x = stream(c.width)
    rope = Rope(c, nnx.Rngs(0), theta=100.0, interleaved=interleaved)
    q, k, v = (heads(x, p, name) for name in "qkv")
    unit = [a / np.sqrt((a**2).sum(-1, keepdims=True) + 1e-6) for a in (q, k)]
    q, k = (oracle.rotate(a, np.arange(T), 100.0, interleaved) for a in unit)
    y = oracle.attention(AttentionSpec(scale=1.0), q * p["temperature"][:, None, None], k, v, Where())
    np.testing.assert_allclose(run(module, x, rope), out(y, p), **CLOSE)


def test_talking_heads():
    c, module, p = built("talking_heads", kv_heads=4)
    x = stream(c.width)
    q, k, v = (heads(x, p, name) for name in "qkv")
    y = oracle.attention(AttentionSpec(scale=0.5), q, k, v, Where(), before=p["before"], after=p["after"])
    np.testing.assert_allclose(run(module, x), out(y, p), **CLOSE)


def test_value_residual_mixes_in_the_first_layers_values():
    c, module, p = built("full(value_residual=True)")
    x, first = stream(c.width), np.random.default_rng(9).standard_normal((B, 2, T, 4)).astype(np.float32)
    q, k, v = (heads(x, p, name) for name in "qkv")
    own, share = p["value_mix"]
    y = oracle.attention(AttentionSpec(scale=0.5), q, k, own * v + share * first, Where())
    np.testing.assert_allclose(run(module, x, values_BKTH=first), out(y, p), **CLOSE)
    with pytest.raises(UserError, match="first layer gives none"):
        run(module, x)


@pytest.mark.parametrize("layer", [0, 3])
def test_differential(layer):
    c, module, p = built("differential")
    x = stream(c.width)
    q, k, v = (heads(x, p, name) for name in "qkv")
    v = np.concatenate([v[:, 0::2], v[:, 1::2]], -1)
    spec = AttentionSpec(scale=0.5)
    a, b = (oracle.attention(spec, q[:, i::2], k[:, i::2], v, Where()) for i in (0, 1))
    q1, k1, q2, k2 = p["lambdas"]
    start = 0.8 - 0.6 * np.exp(-0.3 * layer)
    y = oracle.rms(a - (np.exp(q1 @ k1) - np.exp(q2 @ k2) + start) * b, 1e-6) * p["scale"] * (1 - start)
    y = y.swapaxes(1, 2).reshape(B, T, 4, 4).swapaxes(1, 2)
    np.testing.assert_allclose(run(module, x, layer=layer), out(y, p), **CLOSE)


@pytest.mark.parametrize("call", ["latent(rank=6)", "latent(rank=6, rope_dim=2, q_rank=5)"])
def test_latent(call):
    c, module, p = built(call)
    x = np.float64(stream(c.width))
    latent = oracle.rms(x @ p["down/w"], 1e-5) * p["norm/scale"]
    source = oracle.rms(x @ p["q_down/w"], 1e-5) * p["q_norm/scale"] if "q_down/w" in p else x
    q, k, v = heads(source, p, "q"), heads(latent, p, "k"), heads(latent, p, "v")
    turned = 0
    if "q_rope/w" in p:
        turned = 2
        q = np.concatenate([q, oracle.rotate(heads(source, p, "q_rope"), np.arange(T), 100.0)], -1)
        shared = oracle.rotate((x @ p["k_rope/w"])[:, None], np.arange(T), 100.0)
        k = np.concatenate([k, np.repeat(shared, 4, axis=1)], -1)
    y = oracle.attention(AttentionSpec(scale=(4 + turned) ** -0.5), q, k, v, Where())
    rope = Rope(c, nnx.Rngs(0), theta=100.0)
    np.testing.assert_allclose(run(module, stream(c.width), rope), out(y, p), **CLOSE)


def recurrence(step, start, q, k, v, segments):
    """y[b, n, t] of a state that ``step(state, b, n, t)`` advances and each document begins anew."""
    y = np.zeros((*q.shape[:3], v.shape[-1]))
    for b in range(B):
        for n in range(q.shape[1]):
            state = start.copy()
            for t in range(T):
                if t and segments is not None and segments[b, t] != segments[b, t - 1]:
                    state = start.copy()
                state = step(state, b, n, t)
                y[b, n, t] = state.T @ q[b, n, t]
    return y


def linear_qkv(x, p):
    q, k, v = (heads(x, p, name) for name in "qkv")
    return q, np.repeat(k, 2, axis=1), np.repeat(v, 2, axis=1)


@pytest.mark.parametrize("packed", [{}, PACKED], ids=["whole", "packed"])
@pytest.mark.parametrize("turned", [False, True])
def test_linear(packed, turned):
    c, module, p = built("linear")
    x = stream(c.width)
    q, k, v = linear_qkv(x, p)
    q, k = (np.where(a > 0, a + 1, np.exp(a)) for a in (q, k))
    at = np.broadcast_to(packed.get("positions_BT", np.arange(T)), (B, T))
    rq, rk = q, k
    if turned:
        rq, rk = (np.stack([oracle.rotate(a[b], at[b], 100.0) for b in range(B)]) for a in (q, k))
    segments = packed.get("segments_BT")
    above = recurrence(lambda s, b, n, t: s + np.outer(rk[b, n, t], v[b, n, t]), np.zeros((4, 4)), rq, rk, v, segments)
    ones = np.ones((B, 4, T, 1))
    below = recurrence(lambda s, b, n, t: s + k[b, n, t][:, None], np.zeros((4, 1)), q, k, ones, segments)
    rope = Rope(c, nnx.Rngs(0), theta=100.0) if turned else None
    np.testing.assert_allclose(run(module, x, rope, **packed), out(above / (below + 1e-6), p), **CLOSE)


@pytest.mark.parametrize("packed", [{}, PACKED], ids=["whole", "packed"])
def test_retention(packed):
    c, module, p = built("retention")
    x = stream(c.width)
    q, k, v = linear_qkv(x, p)

    def step(state, b, n, t):
        return (1 - 2.0 ** (-5 - n)) * state + np.outer(k[b, n, t], v[b, n, t])

    y = recurrence(step, np.zeros((4, 4)), q / 2, k, v, packed.get("segments_BT"))
    y = oracle.rms(y, 1e-6) * gated(x, p, lambda a: a * oracle.sigmoid(a))
    np.testing.assert_allclose(run(module, x, **packed), out(y, p), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("packed", [{}, PACKED], ids=["whole", "packed"])
def test_gated_delta(packed):
    c, module, p = built("gated_delta")
    x = stream(c.width)
    q, k, v = linear_qkv(x, p)
    q, k = (a / np.sqrt((a**2).sum(-1, keepdims=True) + 1e-6) for a in (q, k))
    steps = np.log1p(np.exp(np.float64(x) @ p["forget/w"] + p["step_bias"]))
    decay = np.exp(-np.exp(p["log_rate"]) * steps)
    beta = oracle.sigmoid(np.float64(x) @ p["write/w"])

    def step(state, b, n, t):
        key = k[b, n, t][:, None]
        erased = state - beta[b, t, n] * key @ (key.T @ state)
        return decay[b, t, n] * erased + beta[b, t, n] * key @ v[b, n, t][None]

    y = recurrence(step, np.zeros((4, 4)), q, k, v, packed.get("segments_BT"))
    y = oracle.rms(y, 1e-6) * gated(x, p, lambda a: a * oracle.sigmoid(a))
    np.testing.assert_allclose(run(module, x, **packed), out(y, p), atol=1e-4, rtol=1e-4)


def test_a_recurrence_over_many_chunks_is_one_over_few(monkeypatch):
    from gpt_jax.model import recurrence as module

    values = []
    for size in (64, 4, 1):
        monkeypatch.setattr(module, "CHUNK", size)
        c, mechanism, _ = built("gated_delta")
        values.append(run(mechanism, stream(c.width), **PACKED))
    np.testing.assert_allclose(values[1], values[0], atol=1e-5)
    np.testing.assert_allclose(values[2], values[0], atol=1e-5)


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"attention": "latent(rank=6)", "position": "alibi", "kv_heads": 4}, "is a bias on the scores"),
        ({"attention": "latent(rank=6)", "kv_heads": 2}, "keys and values for every head"),
        ({"attention": "latent(rank=6, rope_dim=3)", "kv_heads": 4}, "rotates channels in pairs"),
        ({"attention": "latent(rank=6)", "position": "rope", "kv_heads": 4}, "there would be no positions"),
        ({"attention": "linear", "position": "t5"}, "has no scores"),
        ({"attention": "gated_delta", "position": "fire"}, "has no scores"),
        ({"attention": "differential", "kv_heads": 1}, "pairs heads"),
        ({"attention": "sliding(window=0)"}, "1 to 2147483647"),
        ({"attention": "sliding(windows=4)"}, "did you mean 'window'"),
        ({"attention": "full(softcap='high')"}, "float"),
        ({"attention": "full(qk_norm='rsm')"}, "did you mean 'rms'"),
        ({"attention": "full(position='ropee')"}, "did you mean 'rope'"),
        ({"attention": "talking_heads", "attend": "blockwise"}, "mixing across heads"),
        ({"attend": "blockwise", "dropout": 0.1}, "dropout"),
        ({"position": "rope(fraction=0.25)"}, "even number"),
        ({"position": "rope(scaling={'kind': 'yarm'})"}, "did you mean 'yarn'"),
        ({"position": "rope(scaling={'factor': 8.0, 'original': 8})"}, "is of no kind, and would change nothing"),
        ({"position": "t5(buckets=1)"}, "2 or more buckets"),
        ({"mlp": "moe(experts=2, top_k=3)"}, "top_k from 1 to experts"),
        ({"mlp": "moe(activation='gelo')"}, "did you mean 'gelu'"),
    ],
    ids=str,
)
def test_what_does_not_go_together_is_refused(changes, said):
    from gpt_jax.model import gpt

    with pytest.raises(UserError, match=said):
        gpt.graphdef(config(**changes))
