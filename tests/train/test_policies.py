"""What holds of every policy objective: padding, order, what is left out, a ratio of 1, and numbers far from it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpt_jax import registry
from gpt_jax.errors import UserError
from gpt_jax.train import token_scores
from gpt_jax.train.objectives.policy import Policy
from tests.train.policy_cases import TEMPERATURE, T, V, built, case, ours
from tests.train.test_objectives import CALLS, Case, assert_same

EVERY = [call for calls in CALLS.values() for call in calls if isinstance(built(call), Policy)]
CLOSE = {"rtol": 1e-9, "atol": 1e-12}
OF_TARGETS = ("weights", "targets", "logits", "old", "reference", "advantage", "states", "value", "returns")
ROW = 3  # that is left out


@pytest.fixture(autouse=True)
def in_float64():
    with jax.enable_x64(True):
        yield


def same(found, wanted, of=lambda array: array) -> None:
    """``of``: the part of a gradient by the batch that is compared."""
    (loss, means), gradients = found
    (loss_, means_), gradients_ = wanted
    np.testing.assert_allclose(loss, loss_, **CLOSE)
    for name, mean in means_.items():
        np.testing.assert_allclose(means[name], mean, **CLOSE, err_msg=name)
    for name, gradient in gradients_.items():
        np.testing.assert_allclose(of(np.asarray(gradients[name])), gradient, **CLOSE, err_msg=name)


def test_policies_are_found():
    assert len(EVERY) >= 8 and {registry.parse(call)[0] for call in EVERY} >= {"grpo", "ppo"}


@pytest.mark.parametrize("call", EVERY)
def test_padding_the_order_of_rows_and_what_does_not_count_change_nothing(call):
    for seed in range(4):
        batch = case(seed)
        wanted = ours(call)(batch)
        assert sum(float(np.abs(gradient).max()) for gradient in wanted[1].values()) > 1e-3

        def padded(array: np.ndarray) -> np.ndarray:
            return np.pad(array, ((0, 0), (2, 1), *[(0, 0)] * (array.ndim - 2)))

        wider = batch | {name: padded(batch[name]) for name in OF_TARGETS}
        same(ours(call)(wider), wanted, lambda array: array[:, 2 : 2 + T])

        order = np.random.default_rng(seed).permutation(len(batch["weights"]))
        moved = {name: array[order] for name, array in batch.items()}
        same(ours(call)(moved), wanted, lambda array, order=order: array[np.argsort(order)])

        nothing_BT = batch["weights"] == 0
        garbage = {name: np.where(nothing_BT, np.inf, batch[name]) for name in ("old", "reference", "value", "returns")}
        garbage["advantage"] = np.where(nothing_BT, np.nan, batch["advantage"])
        garbage["targets"] = np.where(nothing_BT, (batch["targets"] + 1) % V, batch["targets"])
        same(ours(call)(batch | garbage), wanted)


@pytest.mark.parametrize("call", EVERY)
def test_rows_without_weights_are_as_if_they_were_not_there(call):
    batch = case(1)
    assert not batch["weights"][ROW].any()
    fewer = {name: np.delete(array, ROW, axis=0) for name, array in batch.items()}
    same(ours(call)(batch), ours(call)(fewer), lambda array: np.delete(array, ROW, axis=0))


@pytest.mark.parametrize("call", EVERY)
def test_nothing_at_all_is_a_loss_of_0(call):
    batch = case(2) | {"weights": np.zeros_like(case(2)["weights"])}
    (loss, means), gradients = ours(call)(batch)
    assert float(loss) == 0 and not any(float(mean) for mean in means.values())
    assert not any(gradient.any() for gradient in gradients.values())


def log_probs(logits_BTV, batch) -> jax.Array:
    return token_scores.log_probs(jnp.asarray(logits_BTV) / TEMPERATURE, jnp.asarray(batch["targets"]))


def reinforced(objective: Policy, batch: dict) -> np.ndarray:
    """The gradient of minus log-probabilities times advantages, in the objective's mean."""
    length_B1 = np.maximum(batch["weights"].sum(1, keepdims=True), 1)
    rows = float((batch["weights"] > 0).any(1).sum())
    share_B1 = {
        "tokens": np.ones_like(length_B1) / batch["weights"].sum(),
        "sequences": 1 / length_B1 / rows,
        "constant": 1 / batch["limit"][:, None] / rows,
    }[objective.mean]
    # Of a ratio of the completion each of n targets' losses has the gradient of all n: the sum of them, n times one.
    times_B1 = length_B1 if objective.clip.ratio == "product" else 1
    factor_BT = -batch["weights"] * batch["advantage"] * share_B1 * times_B1
    return np.asarray(jax.grad(lambda logits_BTV: (factor_BT * log_probs(logits_BTV, batch)).sum())(batch["logits"]))


@pytest.mark.parametrize("call", EVERY)
def test_before_it_has_moved_a_policy_has_the_gradient_of_its_advantages(call):
    """Plus that of what is in the loss beside them, which is the gradient without advantages."""
    for seed in range(4):
        batch = case(seed)
        batch["advantage"] = np.where(batch["weights"] > 0, batch["advantage"].max(1, keepdims=True), 0)
        batch["old"] = np.asarray(log_probs(batch["logits"], batch))
        (_, means), gradients = ours(call)(batch)
        (_, _), without = ours(call)(batch | {"advantage": np.zeros_like(batch["advantage"])})
        wanted = reinforced(built(call), batch)
        assert np.abs(wanted).max() > 1e-3
        np.testing.assert_allclose(gradients["logits"] - without["logits"], wanted, **CLOSE)
        assert float(means["ratio"]) == pytest.approx(1, abs=1e-12) and float(means["moved"]) < 1e-20
        assert float(means["clipped"]) == 0


@pytest.mark.parametrize("call", EVERY)
def test_derivatives_are_finite_however_far_a_policy_has_moved(call):
    """In float32, in which the exponential of 100 is infinite."""
    with jax.enable_x64(False):
        batch = {name: np.float32(a) if a.dtype == np.float64 else np.int32(a) for name, a in case(0).items()}
        for by in (-300, 300):
            far = batch | {"old": batch["old"] + np.float32(by), "reference": batch["reference"] - np.float32(by)}
            (loss, means), gradients = ours(call)(far)
            assert np.isfinite([loss, *means.values()]).all()
            assert all(np.isfinite(gradient).all() for gradient in gradients.values())


@pytest.mark.parametrize("call", ["grpo(ratio='product', kl=0.05, kl_estimator='k2')", "grpo(mean='constant')"])
def test_micro_batches_change_nothing(call):
    """Through the model; ``test_objectives`` does it of other calls."""
    wanted = Case(call).program()(Case(call).laid())
    for parts in (2, 4):
        assert_same(Case(call).program(accumulate=parts)(Case(call).laid()), wanted)


@pytest.mark.parametrize(
    "call, said",
    [
        ("grpo(mean='rows')", "mean = 'rows'"),
        ("grpo(ratio='row')", "ratio = 'row'"),
        ("grpo(kl_estimator='k4')", "kl_estimator = 'k4'"),
        ("grpo(dual_clip=1.0)", "dual_clip = 1"),
        ("grpo(weighted=True, dual_clip=3.0)", "weighted and dual_clip"),
        ("grpo(advantage='gae')", "gae needs a critic"),
        ("ppo(target=6.0, kl_estimator='k2')", "a target adapts"),
        ("ppo(target=6.0, kl=0.0)", "a target adapts"),
    ],
)
def test_what_has_no_meaning_is_refused(call, said):
    with pytest.raises(UserError) as caught:
        built(call)
    assert said in caught.value.what
