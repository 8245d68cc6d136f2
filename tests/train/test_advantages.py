"""Advantages, whitening and rewards of targets beside published code, in float64; and what holds of them exactly."""

import dataclasses
import functools
import types
from collections.abc import Callable

import numpy as np
import pytest

from gpt_jax import registry
from gpt_jax.train.advantages import Estimated, Scores, whitened
from gpt_jax.train.feeds.rollout import adapted
from tests.train import oracles
from tests.train.policy_cases import CASES, TRL, VERL, package

KIND = "train.advantages"
EVERY = [call for name in registry.names(KIND) for call in registry.examples(KIND, name) or (name,)]
PROMPTS, SAMPLES, T = 3, 4, 7
N = PROMPTS * SAMPLES
CLOSE = {"rtol": 1e-6, "atol": 1e-7}  # verl adds 1e-8 to the count of what is whitened


@pytest.fixture(scope="module")
def torch():
    module = pytest.importorskip("torch")
    for pin in (VERL, TRL):
        oracles.wheel(pin)
    threads = module.get_num_threads()
    module.set_num_threads(1)
    yield module
    module.set_num_threads(threads)


def case(seed: int, holes: bool = True, left_out: bool = False, samples: int = SAMPLES) -> Scores:
    """Completions of unequal lengths, with holes; one has no target and a reward of 0, and some have no reward."""
    draw = np.random.default_rng(seed)
    length_N1 = draw.integers(1, T + 1, size=(N, 1))
    there_NT = (np.arange(T) < length_N1) & ((draw.random((N, T)) < 0.7) | (not holes))
    there_NT[np.arange(N), length_N1[:, 0] - 1] = True
    there_NT[draw.integers(N)] = False
    weights_NT = there_NT.astype(np.float64)
    real_N = draw.random(N) < 0.7 if left_out else np.ones(N, bool)
    reward_N = draw.choice([draw.normal(size=N), draw.integers(2, size=N)])
    penalty_NT = 0.1 * draw.normal(size=(N, T)) * weights_NT
    reward_N = np.where(real_N & there_NT.any(1), reward_N, 0)
    return Scores(reward_N, real_N, weights_NT, penalty_NT, draw.normal(size=(N, T)) * weights_NT, samples)


def built(call: str) -> Callable[[Scores], Estimated]:
    return registry.build(KIND, call)


def there(scores: Scores) -> np.ndarray:
    return (scores.weights_NT > 0) & scores.real_N[:, None]


def tensors(torch, scores: Scores) -> tuple:
    """(rewards of targets, mask, ids of prompts)."""
    rewards_NT, mask_NT = torch.tensor(scores.token_rewards_NT), torch.tensor(scores.weights_NT)
    return rewards_NT, mask_NT, np.arange(N) // scores.samples


def twice(scores: Scores, gamma: float, lam: float) -> np.ndarray:
    """Equation 16 as it is written: of each target of a row, the discounted sum over those that follow."""
    found_NT = np.zeros((N, T))
    for n in range(N):
        places = [int(t) for t in np.flatnonzero(scores.weights_NT[n])] if scores.real_N[n] else []
        values = [*scores.value_NT[n, places], 0.0]
        delta = [scores.token_rewards_NT[n, t] + gamma * values[i + 1] - values[i] for i, t in enumerate(places)]
        for i, t in enumerate(places):
            found_NT[n, t] = sum((gamma * lam) ** (j - i) * delta[j] for j in range(i, len(places)))
    return found_NT


@pytest.mark.parametrize("gamma, lam", [(1.0, 0.95), (0.9, 0.8), (1.0, 1.0), (1.0, 0.0)])
def test_gae_is_a_sum_over_the_targets_that_follow(gamma, lam):
    for seed in range(CASES):
        scores = case(seed, left_out=seed % 2 == 1)
        found = built(f"gae(gamma={gamma}, lam={lam}, whiten=False)")(scores)
        wanted_NT = twice(scores, gamma, lam)
        np.testing.assert_allclose(found.advantage_NT, wanted_NT, rtol=1e-10, atol=1e-12)
        value_NT = np.where(there(scores), scores.value_NT, 0)
        np.testing.assert_allclose(found.returns_NT, wanted_NT + value_NT, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("gamma, lam", [(1.0, 0.95), (0.9, 0.8)])
def test_gae_is_that_of_verl_and_trl(torch, gamma, lam):
    """What stands where nothing was written is 0 here and not there. TRL knows no holes."""
    config = types.SimpleNamespace(whiten_rewards=False, gamma=gamma, lam=lam)
    for seed in range(CASES):
        holes = seed % 2 == 0
        scores = case(seed, holes)
        found = built(f"gae(gamma={gamma}, lam={lam})")(scores)
        rewards_NT, mask_NT, _ = tensors(torch, scores)
        values_NT = torch.tensor(scores.value_NT)
        theirs = [package(VERL)["compute_gae_advantage_return"](rewards_NT, values_NT, mask_NT, gamma, lam)]
        if not holes:
            of_trl = package(TRL)["compute_advantages"](
                types.SimpleNamespace(config=config), values_NT, rewards_NT, mask_NT
            )
            theirs.append(of_trl[1:])
        for advantage_NT, returns_NT in theirs:
            np.testing.assert_allclose(found.advantage_NT, advantage_NT * mask_NT, **CLOSE)
            np.testing.assert_allclose(found.returns_NT, returns_NT * mask_NT, **CLOSE)


@pytest.mark.parametrize(
    "call, name, more",
    [
        ("group", "compute_grpo_outcome_advantage", {}),
        ("group(std=False)", "compute_grpo_outcome_advantage", {"norm_adv_by_std_in_grpo": False}),
        ("loo", "compute_rloo_outcome_advantage", {}),
    ],
)
def test_those_of_groups_are_those_of_verl(torch, call, name, more):
    for seed in range(CASES):
        scores = case(seed)
        rewards_NT, mask_NT, index = tensors(torch, scores)
        wanted_NT = package(VERL)[name](rewards_NT, mask_NT, index=index, **more)[0]
        np.testing.assert_allclose(built(call)(scores).advantage_NT, wanted_NT, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("gamma", [1.0, 0.9])
def test_returns_are_those_of_verl(torch, gamma):
    """With the baseline verl takes penalties off before it, and gives them to all targets: the same where there are none."""
    verl = package(VERL)
    for seed in range(CASES):
        scores = case(seed)
        rewards_NT, mask_NT, index = tensors(torch, scores)
        config = types.SimpleNamespace(gamma=gamma)
        wanted_NT = verl["compute_reinforce_plus_plus_outcome_advantage"](rewards_NT, mask_NT, config=config)[0]
        np.testing.assert_allclose(built(f"returns(gamma={gamma})")(scores).advantage_NT, wanted_NT, **CLOSE)
        free = dataclasses.replace(scores, penalty_NT=np.zeros((N, T)))
        of_row = verl["compute_reinforce_plus_plus_baseline_outcome_advantage"]
        wanted_NT = of_row(torch.tensor(free.token_rewards_NT), mask_NT, index)[0]
        np.testing.assert_allclose(built("returns(baseline=True)")(free).advantage_NT, wanted_NT, **CLOSE)


def test_rewards_of_targets_are_those_of_trl(torch):
    """The last target has the completion's; all of them add up to it, less what the divergence costs."""
    beta = 0.3
    self = types.SimpleNamespace(
        config=types.SimpleNamespace(kl_penalty="kl"), kl_ctl=types.SimpleNamespace(value=beta), _kl_penalty=None
    )
    self._kl_penalty = functools.partial(package(TRL)["_kl_penalty"], self)
    for seed in range(CASES):
        draw, scores = np.random.default_rng(seed), case(seed)
        old_NT, reference_NT = draw.normal(size=(2, N, T))
        log_ratio_NT = np.where(there(scores), old_NT - reference_NT, 0)
        scores = dataclasses.replace(scores, penalty_NT=-beta * log_ratio_NT)
        rows = scores.weights_NT.any(1)  # TRL fails without a target
        given = [torch.tensor(a[rows]) for a in (scores.reward_N, old_NT, reference_NT, scores.weights_NT)]
        wanted_NT = package(TRL)["compute_rewards"](self, *given)[0] * given[3]
        np.testing.assert_allclose(scores.token_rewards_NT[rows], wanted_NT, rtol=1e-12, atol=1e-12)
        assert not scores.token_rewards_NT[~rows].any()
        total_N = scores.reward_N - beta * log_ratio_NT.sum(1)
        np.testing.assert_allclose(scores.token_rewards_NT.sum(1), total_N, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(scores.total_N, total_N, rtol=1e-12, atol=1e-12)


def test_whitening_is_that_of_trl_masked_again(torch):
    for seed in range(CASES):
        scores = case(seed)
        value_NT = torch.tensor(np.random.default_rng(seed).normal(3, 5, size=(N, T)))
        mask_NT = torch.tensor(scores.weights_NT)
        theirs_NT = package(TRL)["masked_whiten"](value_NT, mask_NT)
        found_NT = whitened(value_NT.numpy(), there(scores))
        np.testing.assert_allclose(found_NT, theirs_NT * mask_NT, rtol=1e-10, atol=1e-12)
        outside_NT = ~there(scores)
        assert not found_NT[outside_NT].any() and theirs_NT.numpy()[outside_NT].all()


def test_what_a_divergence_costs_is_adapted_as_trl_does(torch):
    draw, rows, horizon = np.random.default_rng(0), 64, 1000
    controller = package(TRL)["AdaptiveKLController"](0.2, 6.0, horizon)
    kl = 0.2
    for _ in range(CASES):
        divergence = float(draw.exponential(6))
        controller.update(divergence, rows)
        kl = adapted(kl, divergence, 6.0, rows, horizon)
        assert kl == pytest.approx(controller.value, rel=1e-12)
