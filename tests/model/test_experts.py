"""Mixtures of experts against a loop over tokens in float64, their loads and losses, and what training makes of them."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from gpt_jax import registry
from gpt_jax.model.mlp.experts import ExpertLinear
from gpt_jax.model.mlp.grouped import BLOCK, grouped_dot, ragged_outer, ragged_product
from gpt_jax.model.where import Where
from gpt_jax.train.losses import over_layers, with_experts
from tests.model import oracle
from tests.model.variants import config

B, T, D, E, K = 2, 7, 16, 5, 2


def built(call: str, **changes):
    """A mixture with random parameters in float64, and these."""
    random = np.random.default_rng(0)
    c = config(mlp=call, **changes)
    graphdef, state = nnx.split(registry.build("model.mlp", call, c, nnx.Rngs(params=0)))
    values = jax.tree.map(lambda a: random.standard_normal(a.shape) * 0.5, nnx.to_pure_dict(state))
    return graphdef, values


def run(call: str, x, where: Where | None = None, **changes):
    """y, report and parameters, all in float64."""
    graphdef, values = built(call, **changes)
    with jax.enable_x64(True):
        params = jax.tree.map(jnp.float64, values)
        y, report = jax.jit(lambda p, x: nnx.merge(graphdef, p)(x, where or Where()))(params, jnp.float64(x))
        return np.asarray(y), jax.tree.map(np.asarray, report), values


def network(p: dict, e: int, x: np.ndarray, gated: bool) -> np.ndarray:
    up = x @ p["up"]["w"][e] + (p["up"]["bias"][e] if "bias" in p["up"] else 0)
    if gated:
        gate = x @ p["gate"]["w"][e] + (p["gate"]["bias"][e] if "bias" in p["gate"] else 0)
        hidden = gate * oracle.sigmoid(gate) * up
    else:
        hidden = np.maximum(up, 0)
    return hidden @ p["down"]["w"][e] + (p["down"]["bias"][e] if "bias" in p["down"] else 0)


def choice(p: dict, x: np.ndarray, router: str, k: int = K) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The experts of a token by falling rank, their weights, and all probabilities."""
    logits = x @ p["router"]["w"] + p["router"].get("bias", 0)
    probabilities = oracle.softmax(logits) if router == "softmax" else oracle.sigmoid(logits)
    chosen = np.argsort(-(probabilities + p.get("balance", 0)), kind="stable")[:k]
    return chosen, probabilities[chosen] / (probabilities[chosen].sum() if k > 1 else 1), probabilities


X = np.random.default_rng(1).standard_normal((B, T, D))


@pytest.mark.parametrize("router", ["softmax", "sigmoid"])
@pytest.mark.parametrize("activation", ["swiglu", "relu"])
@pytest.mark.parametrize("more", ["", ", bias_balance=True", ", shared=1"])
def test_dropless_is_a_loop_over_tokens(router, activation, more):
    call = f"moe(experts={E}, top_k={K}, activation='{activation}', router='{router}'{more})"
    y, report, p = run(call, X, bias=("mlp", "router"))
    counts = np.zeros(E, int)
    for b in range(B):
        for t in range(T):
            chosen, weights, _ = choice(p, X[b, t], router)
            counts[chosen] += 1
            gated = activation == "swiglu"
            right = sum(w * network(p["experts"], e, X[b, t], gated) for e, w in zip(chosen, weights, strict=True))
            if "shared" in p:
                alone = {name: {k: v[None] for k, v in part.items()} for name, part in p["shared"].items()}
                right = right + network(alone, 0, X[b, t], gated)
            np.testing.assert_allclose(y[b, t], right, rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(np.round(report["moe_load"] * B * T * K).astype(int), counts)
    assert report["moe_load"].sum() == pytest.approx(1, abs=1e-12) and report["moe_dropped"] == 0


@pytest.mark.parametrize("router", ["softmax", "sigmoid"])
def test_the_only_expert_of_a_token_counts_by_its_probability(router):
    """Switch's equation 2."""
    y, _, p = run(f"moe(experts={E}, top_k=1, router='{router}')", X, bias=False)
    for at in np.ndindex(B, T):
        (e,), (w,), _ = choice(p, X[at], router, k=1)
        assert w < 1
        np.testing.assert_allclose(y[at], w * network(p["experts"], e, X[at], True), rtol=1e-12, atol=1e-12)


def test_a_limited_capacity_serves_the_earliest():
    capacity = 0.6
    y, report, p = run(f"moe(experts={E}, top_k={K}, capacity={capacity})", X, bias=False)
    room, served = int(np.ceil(capacity * K * T / E)), 0
    for b in range(B):
        taken = np.zeros(E, int)
        for t in range(T):
            right = np.zeros(D)
            for e, w in zip(*choice(p, X[b, t], "softmax")[:2], strict=True):
                if taken[e] < room:
                    right += w * network(p["experts"], e, X[b, t], True)
                    served += 1
                taken[e] += 1
            np.testing.assert_allclose(y[b, t], right, rtol=1e-12, atol=1e-12)
    assert 0 < report["moe_dropped"] == pytest.approx(1 - served / (B * T * K))


@pytest.mark.parametrize("capacity, where", [(9.0, Where()), (0.1, Where(held={}))])
def test_ample_capacity_and_reading_with_a_cache_are_dropless(capacity, where):
    limited, report, _ = run(f"moe(experts={E}, top_k={K}, capacity={capacity})", X, where)
    dropless, _, _ = run(f"moe(experts={E}, top_k={K})", X)
    np.testing.assert_allclose(limited, dropless, rtol=1e-12, atol=1e-12)
    assert report["moe_dropped"] == 0


def test_the_losses():
    """Switch's balance loss (equation 4) and the router's z-loss."""
    _, report, p = run(f"moe(experts={E}, top_k={K}, balance=0.3, z=0.7)", X, bias=False)
    logits = X.reshape(-1, D) @ p["router"]["w"]
    share = oracle.softmax(logits).mean(0)
    z = np.square(np.log(np.exp(logits).sum(-1))).mean()
    assert report["moe_loss"] == pytest.approx(0.3 * E * (report["moe_load"] * share).sum() + 0.7 * z, rel=1e-12)


def test_the_balance_bias_is_pushed_against_the_load():
    """Its gradient has the sign of the excess load, and the loss's value does not change."""
    graphdef, values = built(f"moe(experts={E}, top_k={K}, bias_balance=True)")
    params = jax.tree.map(jnp.float32, values)

    def loss(params):
        _, report = nnx.merge(graphdef, params)(jnp.float32(X), Where())
        return report["moe_loss"], report["moe_load"]

    gradient, load = jax.grad(loss, has_aux=True)(params)
    excess = np.asarray(load) - 1 / E
    assert np.abs(excess).max() > 0
    np.testing.assert_array_equal(np.sign(gradient["balance"]), np.sign(excess.round(6)))


def test_statistics_are_of_all_layers():
    load_LE = jnp.array([[0.5, 0.25, 0.25], [0.2, 0.2, 0.6]])
    report = {"moe_loss": jnp.array([1.0, 2.0]), "moe_load": load_LE, "moe_dropped": jnp.array([0.0, 0.1])}
    sums = {"objective": jnp.float32(8), "loss": jnp.float32(8), "tokens": jnp.float32(4)}
    sums = with_experts(sums, report, sums["tokens"])
    assert float(sums["objective"]) == 8 + 4 * 3 and float(sums["loss"]) == 8
    means = over_layers({name: sums[name] / 4 for name in sums if name.startswith("moe_")})
    assert means == pytest.approx({"moe_loss": 3, "moe_max_load": 1.8, "moe_min_load": 0.6, "moe_dropped": 0.1})


@pytest.mark.parametrize("sizes", [(0, 2 * BLOCK + 44, 1, BLOCK + 1, 0, BLOCK), (3, 0, 2), (0, 0, BLOCK)])
def test_rows_meet_the_matrix_of_their_group(sizes):
    random = np.random.default_rng(0)
    x, dy = random.standard_normal((sum(sizes), 5)), random.standard_normal((sum(sizes), 7))
    w = random.standard_normal((len(sizes), 5, 7))
    group = np.repeat(np.arange(len(sizes)), sizes)
    with jax.enable_x64(True):
        y, back = jax.vjp(jax.jit(lambda x, w: grouped_dot(x, w, jnp.int32(sizes))), x, w)
        dx, dw = back(jnp.asarray(dy))
    np.testing.assert_allclose(y, np.einsum("rd,rdf->rf", x, w[group]), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(dx, np.einsum("rf,rdf->rd", dy, w[group]), rtol=1e-12, atol=1e-12)
    for e in range(len(sizes)):
        np.testing.assert_allclose(dw[e], x[group == e].T @ dy[group == e], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("batch", [1, 3])
def test_the_products_of_accelerators_are_those_of_a_cpu_and_have_no_batch(batch):
    random = np.random.default_rng(0)
    sizes = jnp.array([[2, 0, 5], [1, 4, 0], [0, 0, 6]], jnp.int32)[:batch]  # of eight rows; the rest are of no group
    x, w = random.standard_normal((batch, 8, 4)).astype("f"), random.standard_normal((3, 4, 5)).astype("f")
    dy = random.standard_normal((batch, 8, 5)).astype("f") * (np.arange(8) < sizes.sum(1)[:, None])[..., None]
    together = jax.jit(jax.vmap(ragged_product, (0, None, 0))), jax.jit(jax.vmap(ragged_outer))
    y, dw = together[0](x, w, sizes), together[1](x, dy, sizes)
    for i in range(batch):
        rows = int(sizes[i].sum())
        wanted, back = jax.vjp(lambda x, w, i=i: grouped_dot(x, w, sizes[i]), jnp.asarray(x[i]), jnp.asarray(w))
        np.testing.assert_allclose(y[i, :rows], wanted[:rows], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(dw[i], back(dy[i])[1], rtol=1e-5, atol=1e-5)
    programs = str(jax.make_jaxpr(together[0])(x, w, sizes)), str(jax.make_jaxpr(together[1])(x, dy, sizes))
    for program, shape in zip(programs, ("8,5", "3,4,5"), strict=True):
        assert set(re.findall(r"f32\[([\d,]*)\] = ragged_dot", program)) == {shape}


def test_the_derivative_of_a_bias_adds_up_over_many_tokens_in_bfloat16():
    """4096 ones: a sum in bfloat16 stops at 256."""
    graphdef, state = nnx.split(ExpertLinear(2, 3, 1, config(bias=["mlp"]), nnx.Rngs(0), "linear"))
    params = nnx.to_pure_dict(state)
    expert_X, x_XD = jnp.repeat(jnp.arange(2), 4096), jnp.zeros((8192, 3), jnp.bfloat16)

    def total(bias_EF):
        layer = nnx.merge(graphdef, {**params, "bias": bias_EF})
        return layer.ragged(x_XD, expert_X, jnp.int32([4096, 4096])).astype(jnp.float32).sum()

    np.testing.assert_array_equal(jax.grad(total)(jnp.zeros((2, 1))), [[4096], [4096]])
