"""Losses of policies and critics beside published code, value and gradient in float64."""

import collections
import math
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpt_jax.train.objectives.policy import ESTIMATORS
from tests.train import oracles
from tests.train.policy_cases import LIMIT, NEWER, OPENRLHF, ROWS, TRL, VERL, agree, package

REAL = ROWS - 1  # rows with a target
MODES = {"tokens": "token-mean", "sequences": "seq-mean-token-mean", "constant": "seq-mean-token-sum-norm"}


@pytest.fixture(autouse=True, scope="module")
def torch():
    """On one thread: the arrays are tiny."""
    module = pytest.importorskip("torch")
    for pin in (VERL, TRL, NEWER, OPENRLHF):
        oracles.wheel(pin)
    threads = module.get_num_threads()
    module.set_num_threads(1)
    yield module
    module.set_num_threads(threads)


@pytest.mark.parametrize("mean", MODES)
def test_means_are_those_of_verl(mean):
    """Of the loss of a policy gradient, which is not clipped."""

    def oracle(batch, log_prob, entropy, value):
        loss_BT = -batch["advantage"] * (log_prob - batch["old"]).exp()
        factor = {"loss_scale_factor": LIMIT} if mean == "constant" else {}
        return package(VERL)["agg_loss"](loss_BT, batch["weights"], MODES[mean], **factor), {}

    agree(f"grpo(mean='{mean}', clip_low=0.999999, clip_high=1e9, kl=0.0)", oracle)


@pytest.mark.parametrize("high, dual", [(0.28, 0.0), (0.2, 3.0)])
@pytest.mark.parametrize("mean", ["tokens", "sequences"])
def test_the_clipped_loss_is_that_of_verl(torch, mean, high, dual):
    def oracle(batch, log_prob, entropy, value):
        loss, clipped, moved, dually = package(VERL)["compute_policy_loss"](
            batch["old"],
            log_prob,
            batch["advantage"],
            batch["weights"],
            cliprange_low=0.1,
            cliprange_high=high,
            clip_ratio_c=dual or math.inf,
            loss_agg_mode=MODES[mean],
        )
        counts = batch["weights"] > 0
        ratio = (log_prob - batch["old"]).exp()[counts].mean()
        return loss, {"clipped": clipped + dually, "ratio": ratio, "entropy": entropy[counts].mean()}

    agree(f"grpo(mean='{mean}', clip_low=0.1, clip_high={high}, dual_clip={dual}, kl=0.0)", oracle)


@pytest.mark.parametrize("kind, dual", [("ppo", None), ("ppo", 2.0), ("gspo", None)])
def test_the_clipped_loss_is_that_of_openrlhf(kind, dual):
    """A ratio of the completion is one for all of its tokens, each with an advantage of its own."""

    def oracle(batch, log_prob, entropy, value):
        loss = package(OPENRLHF)["PolicyLoss"](0.1, 0.3, dual, token_level_loss=False, policy_loss_type=kind)
        return loss(log_prob, batch["old"], batch["advantage"], batch["weights"])[0], {}

    ratio = "sequence" if kind == "gspo" else "token"
    agree(f"grpo(ratio='{ratio}', clip_low=0.1, clip_high=0.3, dual_clip={dual or 0.0}, kl=0.0)", oracle)


def test_the_ratio_of_a_completion_is_the_product_of_those_of_its_tokens(torch):
    """Clipped as a whole, as in TRL's trainer of RLOO, and then a mean over completions."""

    def oracle(batch, log_prob, entropy, value):
        counts, advantage = batch["weights"], batch["advantage"]
        ratio_B1 = ((log_prob - batch["old"]) * counts).sum(1, keepdim=True).exp()
        loss_BT = torch.max(-advantage * ratio_B1, -advantage * ratio_B1.clamp(0.8, 1.3))
        return ((loss_BT * counts).sum(1)[:REAL] / counts.sum(1)[:REAL]).mean(), {}

    agree("grpo(ratio='product', clip_low=0.2, clip_high=0.3, kl=0.0)", oracle)


@pytest.mark.parametrize("clip", [0.2, 0.0])
def test_ppo_is_that_of_verl_and_openrlhf(clip):
    """The critic's loss, with c / 2; and that of the policy beside it."""

    def oracle(batch, log_prob, entropy, value):
        given = value, batch["returns"], batch["value"], batch["weights"]
        critic = package(VERL)["compute_value_loss"](*given, clip or math.inf)[0]
        other = package(OPENRLHF)["ValueLoss"](clip or None)(value, batch["value"], batch["returns"], batch["weights"])
        assert critic.item() == pytest.approx(other.item(), rel=1e-12)
        policy = package(VERL)["compute_policy_loss"](
            batch["old"], log_prob, batch["advantage"], batch["weights"], cliprange=0.2, clip_ratio_c=math.inf
        )[0]
        return policy + 0.7 * critic, {"value_loss": 0.7 * critic, "policy_loss": policy}

    agree(f"ppo(value_weight=0.7, value_clip={clip}, clip=0.2)", oracle)


def test_ppo_is_that_of_trl():
    config = types.SimpleNamespace(cliprange=0.2, cliprange_value=0.3, vf_coef=0.4, ratio_threshold=math.inf)

    def oracle(batch, log_prob, entropy, value):
        names = {"old_logprobs": "old", "values": "value", "advantages": "advantage", "returns": "returns"}
        given = {theirs: batch[mine] for theirs, mine in names.items()}
        given |= {"logits": batch["logits"], "vpreds": value, "logprobs": log_prob, "mask": batch["weights"]}
        policy, critic, reports = package(TRL)["loss"](types.SimpleNamespace(config=config), **given)
        return policy + critic, {"clipped": reports["policy/clipfrac"], "policy_loss": policy, "value_loss": critic}

    agree("ppo(clip=0.2, value_clip=0.3, value_weight=0.4)", oracle)


def grpo_of_trl(batch, log_prob, entropy, kind, level="token", beta=0.0, high=0.2, delta=None, bonus=0.0):
    """The loss of TRL's trainer, which asks its model for log-probabilities alone."""
    args = types.SimpleNamespace(use_bias_correction_kl=False, delta=delta)
    accelerator = types.SimpleNamespace(num_processes=1, gather=lambda x: x, reduce=lambda x, reduction: x)
    self = types.SimpleNamespace(
        args=args,
        accelerator=accelerator,
        model=types.SimpleNamespace(training=False),
        aux_loss_enabled=False,
        top_entropy_quantile=1.0,
        off_policy_mask_threshold=None,
        importance_sampling_level=level,
        loss_type=kind,
        beta=beta,
        epsilon_low=0.2,
        epsilon_high=high,
        use_vllm=False,
        max_completion_length=LIMIT,
        use_adaptive_entropy=False,
        _entropy_bonus_enabled=bonus > 0,
        entropy_coef=bonus,
        _metrics={"eval": collections.defaultdict(list)},
        _get_per_token_logps_and_entropies=lambda *args, **more: (log_prob, entropy, None),
    )
    inputs = {"prompt_ids": batch["targets"][:, :0], "prompt_mask": batch["weights"][:, :0]}
    inputs |= {"completion_ids": batch["targets"], "completion_mask": batch["weights"]}
    inputs |= {"advantages": batch["advantage"], "old_per_token_logps": batch["old"]}
    inputs |= {"ref_per_token_logps": batch["reference"], "num_items_in_batch": batch["weights"].sum()}
    return package(NEWER)["_compute_loss"](self, None, inputs)


@pytest.mark.parametrize(
    "call, kind, more",
    [
        ("grpo(kl=0.04)", "grpo", {"beta": 0.04}),
        ("grpo(kl=0.0, ratio='sequence')", "grpo", {"level": "sequence"}),
        ("grpo(kl=0.1, ratio='sequence', dual_clip=2.0)", "grpo", {"level": "sequence", "beta": 0.1, "delta": 2.0}),
        ("grpo(kl=0.04, mean='tokens', clip_high=0.28)", "dapo", {"beta": 0.04, "high": 0.28}),
        ("grpo(kl=0.0, mean='tokens', entropy=0.3)", "dapo", {"bonus": 0.3}),
        ("grpo(kl=0.04, mean='constant')", "dr_grpo", {"beta": 0.04}),
        ("grpo(kl=0.0, mean='tokens', weighted=True, clip_high=1.5)", "cispo", {"high": 2.5}),
    ],
)
def test_grpo_is_that_of_trl(call, kind, more):
    """Of ``grpo`` and ``dr_grpo`` TRL divides by all rows, the one left out too. Its epsilon of CISPO is a ratio."""

    def oracle(batch, log_prob, entropy, value):
        rows = ROWS / REAL if kind in ("grpo", "dr_grpo") else 1
        return grpo_of_trl(batch, log_prob, entropy, kind, **more) * rows, {}

    agree(call, oracle)


@pytest.mark.parametrize("estimator, of_verl", [("k2", "k2"), ("k3", "low_var_kl")])
def test_divergences_are_those_of_verl_and_openrlhf(torch, estimator, of_verl):
    """Where verl's value is below 10: see ``k3``."""

    def oracle(batch, log_prob, entropy, value):
        given = log_prob, batch["reference"]
        divergence = package(VERL)["kl_penalty"](*given, of_verl)
        other = package(OPENRLHF)["compute_approx_kl"](*given, kl_estimator=estimator)
        assert divergence.detach().numpy() == pytest.approx(other.detach().numpy(), rel=1e-4, abs=1e-5)  # in float32
        mean = package(VERL)["agg_loss"](divergence, batch["weights"], "token-mean")
        return 0.6 * mean, {"kl_loss": mean}

    agree(f"grpo(mean='tokens', kl=0.6, kl_estimator='{estimator}')", oracle, wide=0.5, better=0.0)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_estimators_are_those_of_verl(torch, estimator):
    """Of each token, its value and its derivative."""
    with jax.enable_x64(True):
        ratio_N = np.concatenate([np.linspace(-2.5, 9, 1000), [0.0]])
        given = torch.tensor(ratio_N, requires_grad=True)
        wanted = package(VERL)["kl_penalty"](given, torch.zeros_like(given), estimator)
        (gradient,) = torch.autograd.grad(wanted.sum(), given)
        found, own = jax.vmap(jax.value_and_grad(ESTIMATORS[estimator]))(jnp.asarray(ratio_N))
        np.testing.assert_allclose(found, wanted.detach().numpy(), rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(own, gradient.numpy(), rtol=1e-12, atol=1e-12)
