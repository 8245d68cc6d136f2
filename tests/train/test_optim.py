"""Updates against NumPy and optax, the table of groups, and one result for scanned and unrolled layers."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gpt_jax import registry
from gpt_jax.config import Config
from gpt_jax.configs import base
from gpt_jax.errors import UserError
from gpt_jax.model import layout
from gpt_jax.train import optim

LAYERS, WIDTH, HEADS, HEAD, MLP, VOCAB = 3, 8, 2, 4, 16, 11
CALLS = [*registry.names("train.optimizers"), "sgd(momentum=0.9, nesterov=True)", "adafactor(min_dim=4)"]


def config(**changes):
    c = base.get_config()
    c.model.update(layers=LAYERS, width=WIDTH, heads=HEADS)
    c.optim.update(schedule="constant", warmup=0, clip=0.0, weight_decay=0.0)
    optimized = Config.from_dict(c.to_dict())
    return dataclasses.replace(optimized, optim=dataclasses.replace(optimized.optim, **changes))


def params(seed=0):
    rng = np.random.default_rng(seed)

    def normal(*shape):
        return jnp.asarray(rng.normal(size=shape), jnp.float32)

    def block():
        qkv = {name: {"w": normal(WIDTH, HEADS, HEAD), "bias": normal(HEADS, HEAD)} for name in "qkv"}
        out = {"w": normal(HEADS, HEAD, WIDTH), "bias": normal(WIDTH)}
        mlp = {
            "up": {"w": normal(WIDTH, MLP), "bias": normal(MLP)},
            "down": {"w": normal(MLP, WIDTH), "bias": normal(WIDTH)},
        }
        return {"norm1": {"scale": normal(WIDTH)}, "attention": {**qkv, "out": out}, "mlp": mlp}

    return {
        "embed": {"tokens": {"w": normal(VOCAB, WIDTH)}},
        "blocks": {str(i): block() for i in range(LAYERS)},
        "norm": {"scale": normal(WIDTH)},
    }


def run(c, start, gradients, scanned=False):
    """(parameters, state, info) after an update by each gradient."""
    optimizer = optim.build(c, start, scanned)
    advance = jax.jit(optimizer.update)
    values, state, info = start, optimizer.init(start), {}
    for step, grads in enumerate(gradients):
        updates, state, info = advance(grads, state, values, jnp.int32(step), optim.hyper_of(c))
        values = jax.tree.map(jnp.add, values, updates)
    return values, state, info


def close(ours, theirs, **tolerance):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, **(tolerance or dict(rtol=2e-5, atol=2e-6))), ours, theirs
    )


def decayed(path_values):
    """The mask of the default groups: weights, not biases and scales."""
    return jax.tree_util.tree_map_with_path(lambda keys, _: keys[-1].key == "w", path_values)


@pytest.mark.parametrize(
    "call, reference",
    [
        ("adamw(b1=0.8, b2=0.9, eps=1e-6)", lambda m: optax.adamw(1e-2, 0.8, 0.9, 1e-6, weight_decay=0.3, mask=m)),
        ("lion(b1=0.8, b2=0.9)", lambda m: optax.lion(1e-2, 0.8, 0.9, weight_decay=0.3, mask=m)),
        ("sgd", lambda m: optax.chain(optax.add_decayed_weights(0.3, m), optax.sgd(1e-2))),
    ],
)
def test_decoupled_decay_is_optaxs(call, reference):
    gradients = [params(seed) for seed in (1, 2, 3)]
    ours, _, _ = run(config(optimizer=call, lr=1e-2, weight_decay=0.3), params(), gradients)
    theirs, tx = params(), reference(decayed(params()))
    state = tx.init(theirs)
    for grads in gradients:
        updates, state = tx.update(grads, state, theirs)
        theirs = optax.apply_updates(theirs, updates)
    close(ours, theirs)


def test_adamw_by_hand():
    grads = [params(seed) for seed in (1, 2)]
    ours, _, _ = run(config(optimizer="adamw(b1=0.9, b2=0.95, eps=1e-8)", lr=0.1, weight_decay=0.5), params(), grads)
    p = np.asarray(params()["embed"]["tokens"]["w"], np.float64)
    m = v = 0.0
    for t, grad in enumerate(grads, 1):
        g = np.asarray(grad["embed"]["tokens"]["w"], np.float64)
        m, v = 0.9 * m + 0.1 * g, 0.95 * v + 0.05 * g * g
        p = p - 0.1 * (m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.95**t)) + 1e-8) + 0.5 * p)
    np.testing.assert_allclose(ours["embed"]["tokens"]["w"], p, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_momentum_by_hand(nesterov):
    grads = [params(seed) for seed in (1, 2, 3)]
    ours, _, _ = run(config(optimizer=f"sgd(momentum=0.9, nesterov={nesterov})", lr=0.1), params(), grads)
    p, trace = np.asarray(params()["norm"]["scale"], np.float64), 0.0
    for grad in grads:
        g = np.asarray(grad["norm"]["scale"], np.float64)
        trace = g + 0.9 * trace
        p = p - 0.1 * (g + 0.9 * trace if nesterov else trace)
    np.testing.assert_allclose(ours["norm"]["scale"], p, rtol=1e-5)


def test_adafactor_is_optaxs_on_matrices():
    call = "adafactor(min_dim=4)"
    ours, _, _ = run(config(optimizer=call, lr=1e-2), params(), [params(1), params(2)])
    theirs = params()["blocks"]["1"]["mlp"]["up"]["w"]
    tx = optax.adafactor(1e-2, min_dim_size_to_factor=4)
    state = tx.init(theirs)
    for seed in (1, 2):
        updates, state = tx.update(params(seed)["blocks"]["1"]["mlp"]["up"]["w"], state, theirs)
        theirs = optax.apply_updates(theirs, updates)
    close(ours["blocks"]["1"]["mlp"]["up"]["w"], theirs)


MATRICES = {
    "q": (("attention", "q", "w"), (8, 8)),
    "out": (("attention", "out", "w"), (8, 8)),
    "up": (("mlp", "up", "w"), (8, 16)),
}


@pytest.mark.parametrize("name", MATRICES)
def test_muon_moves_along_an_orthogonal_matrix(name):
    keys, shape = MATRICES[name]
    start, grads = params(), params(1)
    ours, _, _ = run(config(optimizer="muon", lr=1.0), start, [grads])
    before, after, grad = start["blocks"]["2"], ours["blocks"]["2"], grads["blocks"]["2"]
    for key in keys:
        before, after, grad = before[key], after[key], grad[key]
    step = (np.asarray(before, np.float64) - np.asarray(after)).reshape(shape) / (0.2 * np.sqrt(max(shape)))
    singular = np.linalg.svd(step, compute_uv=False)
    assert 0.5 < singular.min() and singular.max() < 1.3
    u, _, vt = np.linalg.svd(np.asarray(grad, np.float64).reshape(shape), full_matrices=False)
    assert np.trace((u @ vt).T @ step) / np.linalg.norm(step) / np.sqrt(min(shape)) > 0.95


def test_muon_is_adam_outside_matrices():
    ours, _, _ = run(config(optimizer="muon", lr=1e-2), params(), [params(1), params(2)])
    theirs, _, _ = run(config(optimizer="adamw", lr=1e-2), params(), [params(1), params(2)])
    for path in (("embed", "tokens", "w"), ("norm", "scale"), ("blocks", "0", "attention", "q", "bias")):
        a, b = ours, theirs
        for key in path:
            a, b = a[key], b[key]
        np.testing.assert_array_equal(a, b)
    assert not np.allclose(ours["blocks"]["0"]["mlp"]["up"]["w"], theirs["blocks"]["0"]["mlp"]["up"]["w"], atol=1e-3)


MIXED = ((r"(bias|scale)$", {"weight_decay": 0.0, "optimizer": "sgd(momentum=0.9)"}), (r".*", {}))


@pytest.mark.every(3)
@pytest.mark.parametrize(
    "call, groups", [*((call, None) for call in CALLS), ("adafactor(min_dim=4)", MIXED), ("muon", MIXED)]
)
def test_scanned_equals_unrolled(call, groups):
    c = config(optimizer=call, lr=1e-2, weight_decay=0.1, clip=1.0, **({"groups": groups} if groups else {}))
    gradients = [params(seed) for seed in (1, 2, 3)]
    unrolled, state, _ = run(c, params(), gradients)
    scanned, stacked_state, _ = run(c, layout.stack(params(), 1), [layout.stack(g, 1) for g in gradients], scanned=True)
    expected = layout.stack((unrolled, state), 1)
    assert jax.tree.structure(expected) == jax.tree.structure((scanned, stacked_state))
    close((scanned, stacked_state), expected, rtol=2e-4, atol=2e-5)


def test_scanned_layers_have_rates_and_decay_of_their_own():
    last = {"lr": 10.0, "weight_decay": 0.0}
    c = config(lr=1e-3, weight_decay=0.1, groups=(("^blocks/0/", {"lr": 0.1}), ("^blocks/2/", last), (".*", {})))
    unrolled, _, _ = run(c, params(), [params(1)])
    scanned, _, _ = run(c, layout.stack(params(), 1), [layout.stack(params(1), 1)], scanned=True)
    close(scanned, layout.stack(unrolled, 1))


@pytest.mark.parametrize("scanned", [False, True])
def test_layers_that_are_alike_have_one_optimizer(scanned):
    """Their statistics are stacked in a checkpoint, whichever way they run."""
    start = layout.stack(params(), 1) if scanned else params()
    with pytest.raises(UserError, match="blocks/0/attention/k/bias has the optimizer sgd and blocks/1/"):
        optim.build(config(groups=(("^blocks/0/", {"optimizer": "sgd"}), (".*", {}))), start, scanned)


@pytest.mark.parametrize("call", CALLS)
def test_hyper_is_traced_and_the_state_does_not_depend_on_it(call):
    c = config(optimizer=call)
    optimizer, start, traces = optim.build(c, params(), False), params(), []

    @jax.jit
    def advance(hyper):
        traces.append(1)
        return optimizer.update(params(1), optimizer.init(start), start, jnp.int32(0), hyper)

    hypers = [
        optim.hyper_of(config(lr=lr, clip=clip, weight_decay=wd))
        for lr, clip, wd in ((1e-2, 0.0, 0.0), (2e-2, 0.0, 0.0), (1e-2, 1.0, 0.3))
    ]
    (first, s0, i0), (second, s1, i1), (_, s2, i2) = [advance(hyper) for hyper in hypers]
    assert len(traces) == 1
    close(jax.tree.map(lambda u: 2 * u, first), second)
    assert (float(i0["lr"]), float(i1["lr"])) == pytest.approx((1e-2, 2e-2))
    assert jax.tree.structure(s0) == jax.tree.structure(s1) == jax.tree.structure(s2)


@pytest.mark.parametrize("clip", [0.0, 0.5, 1e6])
def test_clipping_is_by_the_norm_of_all_gradients(clip):
    ours, _, info = run(config(optimizer="sgd", lr=1.0, clip=clip), params(), [params(1)])
    norm = np.sqrt(sum((np.asarray(g, np.float64) ** 2).sum() for g in jax.tree.leaves(params(1))))
    scale = clip / norm if 0 < clip < norm else 1.0
    close(ours, jax.tree.map(lambda p, g: p - scale * g, params(), params(1)))
    assert float(info["grad_norm"]) == pytest.approx(norm, rel=1e-6)


def test_the_first_row_found_applies():
    groups = (
        (r"mlp/up/w$", {"lr": 0.5, "weight_decay": 2.0}),
        (r"blocks/0/", {"lr": 0.0}),
        (r".*", {"weight_decay": 0.0}),
    )
    ours, _, _ = run(config(optimizer="sgd", lr=0.1, weight_decay=0.3, groups=groups), params(), [params(1)])

    def expected(keys, p, g):
        path = jax.tree_util.keystr(keys, simple=True, separator="/")
        if path.endswith("mlp/up/w"):
            return p - 0.05 * (g + 0.6 * p)
        return p if path.startswith("blocks/0/") else p - 0.1 * g

    close(ours, jax.tree_util.tree_map_with_path(expected, params(), params(1)))


def test_a_row_can_have_an_optimizer_of_its_own():
    c = config(optimizer="adamw", lr=1e-2, groups=((r"^embed/", {"optimizer": "sgd"}), (r".*", {})))
    ours, _, _ = run(c, params(), [params(1)])
    alone, _, _ = run(config(optimizer="adamw", lr=1e-2), params(), [params(1)])
    close(ours["embed"], jax.tree.map(lambda p, g: p - 1e-2 * g, params()["embed"], params(1)["embed"]))
    close(ours["blocks"], alone["blocks"])


@pytest.mark.parametrize(
    "groups, words",
    [
        (((r"^blocks/", {}),), ["embed/tokens/w"]),
        (((r".*", {"rate": 1.0}),), ["rate"]),
        (((r".*", {"lr": "fast"}),), ["fast"]),
        (((r"(", {}),), ["("]),
        ((r".*",), [".*"]),
        (((r".*", {"optimizer": "adamm"}),), ["adamm", "adamw"]),
        (((r".*", {"optimizer": "sgd(b1=0.9)"}),), ["b1", "momentum"]),
    ],
)
def test_tables_that_cannot_be_used(groups, words):
    with pytest.raises(UserError) as error:
        optim.build(config(groups=groups), params(), False)
    assert all(word in str(error.value) for word in words), str(error.value)


@pytest.mark.parametrize("decay", [0.0, 0.9, 0.9999])
def test_the_moving_average_is_optaxs_without_bias(decay):
    tx, ours, draw = optax.ema(decay, debias=True), jnp.array([7.0, -7.0]), np.random.default_rng(0)
    state = tx.init(ours)
    for count in range(60):
        new = jnp.asarray(draw.normal(size=2) + 1, jnp.float32)
        ours = optim.ema(ours, new, decay, jnp.int32(count))
        theirs, state = tx.update(new, state)
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4)  # optax computes 1 - decay^t in float32
