"""Frozen rows of optim.groups: no gradient, no statistics, no part in the norm, and parameters that stay to the bit."""

import jax
import numpy as np
import pytest

from gpt_jax import registry
from gpt_jax.errors import UserError
from gpt_jax.train import optim
from gpt_jax.train.gradients import loss_and_grads
from gpt_jax.train.step import hyper_scalars
from gpt_jax.tree_paths import path_of
from tests.model import variants
from tests.train import tiny

FREEZE = ((r"embed|attention/(q|k)/", {"frozen": True}), (r"(bias|scale)$", {"weight_decay": 0.0}), (r".*", {}))
TUNED = dict(model__layers=2, optim__lr=1e-2, optim__schedule="constant", optim__warmup=0, optim__weight_decay=0.1)


def leaves(tree) -> dict[str, np.ndarray]:
    return {path_of(keys): np.asarray(leaf) for keys, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def is_frozen(path: str) -> bool:
    return "embed" in path or "/q/" in path or "/k/" in path


@pytest.mark.every(4)
@pytest.mark.parametrize("optimizer", registry.names("train.optimizers"))
@pytest.mark.parametrize("scan", [False, True])
def test_every_optimizer_keeps_nothing_of_what_is_frozen(optimizer, scan):
    c = tiny.config(**TUNED, optim__groups=FREEZE, optim__optimizer=optimizer, model__scan=scan)
    params = variants.parameters(c.model)
    state = optim.build(c, params, scan).init(params)
    assert not [path for path in leaves(state) if is_frozen(path)]
    assert optimizer == "sgd" or [path for path in leaves(state) if "mlp" in path]
    if not scan:
        grads = optim.trained(c, params)
        updates, after, info = optim.build(c, params, scan).update(grads, state, params, 0, hyper_scalars(c))
        assert jax.tree.structure(after) == jax.tree.structure(state)
        norm = np.sqrt(sum(np.square(leaf).sum() for path, leaf in leaves(params).items() if not is_frozen(path)))
        np.testing.assert_allclose(info["grad_norm"], norm, rtol=1e-5)
        for path, leaf in leaves(optim.added(updates, params)).items():
            assert np.array_equal(leaf, leaves(params)[path]) == is_frozen(path), path


def test_a_step_leaves_what_is_frozen_as_it_is():
    c = tiny.config(**TUNED, optim__groups=FREEZE, model__scan=True, train__accumulate=2, optim__ema=0.5)
    state, step = tiny.start(c)
    before = leaves(state["params"])
    for batch in tiny.batches(2):
        state, metrics = step(state, batch)
    for path, leaf in leaves(state["params"]).items():
        assert np.array_equal(leaf, before[path]) == is_frozen(path), path
        assert not is_frozen(path) or np.array_equal(leaves(state["ema"])[path], before[path])
    assert float(metrics["grad_norm"]) > 0


def test_the_others_train_as_if_the_frozen_had_a_rate_of_zero():
    """But for the norm, which frozen gradients are no part of."""
    zero = ((FREEZE[0][0], {"lr": 0.0}), *FREEZE[1:])
    ends, norms = [], []
    for groups in (FREEZE, zero):
        state, step = tiny.start(tiny.config(**TUNED, optim__groups=groups, optim__clip=0.0))
        for batch in tiny.batches(2):
            state, metrics = step(state, batch)
        ends.append(leaves(state["params"]))
        norms.append(float(metrics["grad_norm"]))
        assert ("opt" in state) and any(map(is_frozen, leaves(state["opt"]))) == (groups is zero)
    for path, leaf in ends[0].items():
        np.testing.assert_allclose(leaf, ends[1][path], atol=1e-6, err_msg=path)
    assert norms[0] < norms[1] * 0.99


def test_no_gradient_is_computed():
    """The step with the embedding, queries and keys frozen takes fewer operations than the whole one."""
    counts = []
    for groups in (FREEZE, FREEZE[1:]):
        c = tiny.config(**TUNED, optim__groups=groups)
        state, _ = tiny.start(c)
        recipe = tiny.program(c).recipe
        lowered = jax.jit(lambda s, b, r=recipe, c=c: loss_and_grads(r, s, b, hyper_scalars(c))[1]).lower(
            state, tiny.batches(1)[0]
        )
        counts.append(lowered.compile().cost_analysis()["flops"])
    assert counts[0] < 0.95 * counts[1]


@pytest.mark.parametrize(
    "groups, said",
    [
        (((".*", {"frozen": True}),), "every parameter is frozen"),
        ((("embd", {"frozen": True}), (".*", {})), "'embd' freezes nothing"),
        ((("blocks/0/", {"frozen": True}), (".*", {})), "blocks/0/attention/k/bias and not blocks/1/"),
        ((("embed", {"frozen": True, "lr": 0.1}), (".*", {})), "no rate"),
        ((("embed", {"frozen": 1}), (".*", {})), "no place"),
    ],
)
@pytest.mark.parametrize("scan", [False, True])
def test_what_cannot_be_frozen_is_refused(groups, said, scan):
    c = tiny.config(**TUNED, optim__groups=groups, model__scan=scan)
    with pytest.raises(UserError, match=said):
        tiny.start(c)


def test_only_some_of_an_adapter_can_be_trained():
    c = tiny.config(
        tune__adapter="lora(rank=2)", tune__start="x", optim__groups=(("lora_a$", {"frozen": True}), (".*", {}))
    )
    program = tiny.program(c)
    assert all(path.endswith("lora_b") for path in leaves_of(program.trained)) and leaves_of(program.trained)
    assert not [path for path in leaves_of(program.live["opt"]) if path.endswith("lora_a")]
    assert optim.joined(program.trained, program.live["params"]).keys() == program.live["params"].keys()


def leaves_of(tree) -> list[str]:
    return [path_of(keys) for keys, _ in jax.tree_util.tree_leaves_with_path(tree)]
