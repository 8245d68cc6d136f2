"""What policy objectives are in expectation: over all completions of a policy that is a table, with no sampling."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy

from gpt_jax.study.compare.best_of_n import divergence
from gpt_jax.train import token_scores
from tests.train.policy_cases import Given, built, value
from tests.train.tabular import World

EXACT = 1e-10
KL = 0.3
WORLD, TOKEN = World(), World(vocab=8, longest=1)
IN_REWARD = f"kl={KL}, kl_estimator='k1'"


@pytest.fixture(autouse=True)
def in_float64():
    with jax.enable_x64(True):
        yield


def groups(world: World, table_SV: np.ndarray, samples: int) -> tuple[np.ndarray, np.ndarray]:
    """Every group of completions, and how likely it is."""
    every = np.array(list(itertools.product(range(len(world.completions)), repeat=samples)))
    return every, np.exp(np.asarray(world.log_probs(table_SV)))[every].prod(1)


def expected(call: str, samples: int = 1, world: World = WORLD, value_S=None, counted: bool = True) -> np.ndarray:
    """The gradient of the expected loss of groups of completions, by the table that writes them."""
    old_SV, reference_SV = world.drawn(0), world.drawn(1)
    groups_PG, share_P = groups(world, old_SV, samples)
    objective = built(call)
    kl = objective.kl if objective.penalises else 0
    estimated = objective.advantage(world.scores(old_SV, reference_SV, groups_PG.reshape(-1), samples, kl, value_S))
    return world.gradient(call, old_SV, reference_SV, groups_PG, share_P, estimated, counted)


def exact(world: World = WORLD, kl: float = KL) -> np.ndarray:
    """That of what is to be maximised, by the same table."""
    return np.asarray(jax.grad(lambda table: -world.worth(table, world.drawn(1), kl))(jnp.asarray(world.drawn(0))))


def close(found: np.ndarray, wanted: np.ndarray) -> None:
    assert np.abs(wanted).max() > 0.01
    np.testing.assert_allclose(found, wanted, rtol=0, atol=EXACT)


def apart(found: np.ndarray, wanted: np.ndarray) -> float:
    """By how much of its length a gradient is no multiple of another one."""
    scaled = found * (found * wanted).sum() / (found**2).sum()
    return float(np.linalg.norm(scaled - wanted) / np.linalg.norm(wanted))


@pytest.mark.parametrize("samples", [2, 3])
@pytest.mark.parametrize("how", ["ratio='product'", "mean='constant'"])
def test_groups_have_the_gradient_of_the_expected_reward(how, samples):
    """In its group's mean a completion is compared with itself too: so much less is left of the gradient."""
    close(expected(f"grpo(advantage='loo', {how}, {IN_REWARD})", samples), exact())
    mean = expected(f"grpo(advantage='group(std=False)', {how}, {IN_REWARD})", samples)
    close(mean * samples / (samples - 1), exact())


def test_dividing_by_the_deviation_or_the_length_makes_another_gradient():
    """Liu et al. 2025, "Understanding R1-Zero-like training"."""
    divided = expected(f"grpo(advantage='group', mean='constant', {IN_REWARD})", 3)
    by_length = expected(f"grpo(advantage='loo', mean='sequences', {IN_REWARD})", 3)
    assert apart(divided, exact()) > 0.02 and apart(by_length, exact()) > 0.02


def test_the_mean_of_returns_is_a_gradient_of_the_expected_reward_too():
    close(expected(f"grpo(advantage='returns(whiten=False)', mean='constant', {IN_REWARD})"), exact())


@pytest.mark.parametrize("critic", [False, True])
def test_ppo_that_looks_to_the_end_is_reinforce(critic):
    """Before the policy has moved, whatever a critic says: it is a baseline."""
    value_S = np.random.default_rng(3).normal(size=len(WORLD.prefixes)) if critic else None
    call = f"ppo(advantage='gae(lam=1.0, whiten=False)', {IN_REWARD})"
    close(expected(call, counted=False, value_S=value_S), exact())
    biased = expected(call.replace("lam=1.0", "lam=0.5"), counted=False, value_S=value_S)
    assert np.abs(biased - exact()).max() > 0.01


def test_a_step_of_ppo_is_a_step_of_reinforce():
    """Of every single completion: minus the mean over its tokens of log-probabilities times what follows."""
    old_SV, reference_SV = WORLD.drawn(0), WORLD.drawn(1)
    call, rows_N = f"ppo(advantage='gae(lam=1.0, whiten=False)', {IN_REWARD})", np.arange(len(WORLD.completions))
    scores = WORLD.scores(old_SV, reference_SV, rows_N, 1, KL)
    estimated, share_P = built(call).advantage(scores), np.random.default_rng(0).random(len(rows_N))
    found = WORLD.gradient(call, old_SV, reference_SV, rows_N[:, None], share_P, estimated)
    follows_NT = np.cumsum(scores.token_rewards_NT[:, ::-1], 1)[:, ::-1]
    weights_NT = share_P[:, None] / scores.weights_NT.sum(1, keepdims=True)
    loss = lambda table_SV: -(weights_NT * follows_NT * WORLD.tokens(table_SV)).sum()
    close(found, jax.grad(loss)(jnp.asarray(old_SV)))


def divergences(world: World, forward: bool) -> np.ndarray:
    """The gradient of KL(reference || policy), if ``forward``, or KL(policy || reference) of each next token, by how often
    the policy is there."""
    old_SV, reference_SV = jnp.asarray(world.drawn(0)), jnp.asarray(world.drawn(1))
    state_YT, _, weights_YT = world.arrays
    share_YT = np.exp(np.asarray(world.log_probs(old_SV)))[:, None] * weights_YT
    visits_S = np.bincount(state_YT.reshape(-1), share_YT.reshape(-1), len(world.prefixes))

    def total(table_SV):
        sides = jax.nn.log_softmax(reference_SV), jax.nn.log_softmax(table_SV)
        p_SV, q_SV = sides if forward else sides[::-1]
        return (visits_S * (jnp.exp(p_SV) * (p_SV - q_SV)).sum(1)).sum()

    return np.asarray(jax.grad(total)(old_SV))


def in_loss(estimator: str, world: World) -> np.ndarray:
    """The gradient of an estimator as a loss, with no other."""
    call = f"grpo(advantage='returns(whiten=False)', mean='constant', kl=1.0, kl_estimator='{estimator}')"
    return expected(call, world=world) - expected(call.replace("kl=1.0", "kl=0.0"), world=world)


@pytest.mark.parametrize("world", [TOKEN, WORLD], ids=["one token", "several"])
def test_divergences_as_losses_have_the_gradients_of_next_tokens(world):
    """k2 has that of k1 in the reward of each token alone; k3 has another one."""
    close(in_loss("k2", world), divergences(world, forward=False))
    close(in_loss("k3", world), divergences(world, forward=True))
    assert apart(in_loss("k3", world), in_loss("k2", world)) > 0.1
    alone = "grpo(advantage='returns(gamma=0.0, whiten=False)', mean='constant', kl={}, kl_estimator='k1')"
    close(in_loss("k2", world), expected(alone.format(1.0), world=world) - expected(alone.format(0.0), world=world))


def test_of_one_token_k2_has_the_gradient_of_the_divergence_and_of_several_it_lacks_what_follows():
    rewarded = lambda world: exact(world, 1.0) - exact(world, 0.0)
    close(in_loss("k2", TOKEN), rewarded(TOKEN))
    assert apart(in_loss("k2", WORLD), rewarded(WORLD)) > 0.1


def optimum(world: World, kl: float) -> np.ndarray:
    """reference e^(reward / kl) / Z, over completions."""
    log_Y = np.asarray(world.log_probs(world.drawn(1))) + world.reward_Y / kl
    return np.exp(log_Y - scipy.special.logsumexp(log_Y))


def test_what_is_learned_from_rewards_is_the_reference_tilted_by_them():
    call, reference_SV = f"grpo(advantage='returns(whiten=False)', mean='constant', {IN_REWARD})", WORLD.drawn(1)
    rows_N = np.arange(len(WORLD.completions))

    def downhill(flat):
        table_SV = flat.reshape(reference_SV.shape)
        share_N = np.exp(np.asarray(WORLD.log_probs(table_SV)))
        estimated = built(call).advantage(WORLD.scores(table_SV, reference_SV, rows_N, 1, KL))
        gradient = WORLD.gradient(call, table_SV, reference_SV, rows_N[:, None], share_N, estimated)
        return -float(WORLD.worth(table_SV, reference_SV, KL)), gradient.reshape(-1)

    found = scipy.optimize.minimize(downhill, reference_SV.reshape(-1), jac=True, method="BFGS")
    learned_Y = np.exp(np.asarray(WORLD.log_probs(found.x.reshape(reference_SV.shape))))
    assert np.abs(learned_Y - optimum(WORLD, KL)).sum() < 1e-3
    assert np.abs(np.exp(np.asarray(WORLD.log_probs(reference_SV))) - optimum(WORLD, KL)).sum() > 0.3


def test_what_is_learned_from_preferences_is_the_same():
    """Of all pairs, each as often preferred as its rewards say (Rafailov et al. 2023)."""
    state_YT, target_YT, weights_YT = WORLD.arrays
    pairs_PC = np.array(list(itertools.permutations(range(len(WORLD.completions)), 2)))
    share_P = scipy.special.expit(np.diff(-WORLD.reward_Y[pairs_PC], axis=1)[:, 0])
    reference_PC = np.asarray(WORLD.log_probs(WORLD.drawn(1)))[pairs_PC]

    class Pairs(Given):
        def log_probs(self, batch):
            return token_scores.log_probs(batch["logits"], batch["targets"])

    def loss(flat):
        logits_PCTV = flat.reshape(WORLD.drawn(1).shape)[state_YT[pairs_PC]]

        def one(logits_CTV, pair_C, reference_C):
            batch = {"logits": logits_CTV[None], "reference": reference_C[None]}
            batch |= {"targets": jnp.asarray(target_YT)[pair_C][None], "weights": jnp.asarray(weights_YT)[pair_C][None]}
            return value(built(f"dpo(beta={KL})"), batch, Pairs())[0]

        return (share_P * jax.vmap(one)(logits_PCTV, jnp.asarray(pairs_PC), jnp.asarray(reference_PC))).sum()

    step = jax.jit(jax.value_and_grad(loss))
    both = lambda flat: [np.asarray(a) for a in step(jnp.asarray(flat))]
    found = scipy.optimize.minimize(both, WORLD.drawn(1).reshape(-1), jac=True, method="BFGS")
    learned_Y = np.exp(np.asarray(WORLD.log_probs(found.x.reshape(WORLD.drawn(1).shape))))
    assert np.abs(learned_Y - optimum(WORLD, KL)).sum() < 1e-3


@pytest.mark.parametrize("n", [1, 2, 8, 100])
def test_the_best_of_n_is_no_further_than_its_bound(n):
    """Exactly, of completions that are all worth something else."""
    share_Y, order = np.exp(np.asarray(WORLD.log_probs(WORLD.drawn(0)))), np.argsort(WORLD.reward_Y)
    below_Y = np.concatenate([[0], np.cumsum(share_Y[order])])
    best_Y = np.diff(below_Y**n)
    found = float(scipy.special.rel_entr(best_Y, share_Y[order]).sum())
    assert found <= divergence(n) + 1e-12
    fine = np.linspace(0, 1, 200_001)
    almost = float(scipy.special.rel_entr(np.diff(fine**n), np.diff(fine)).sum())
    assert almost <= divergence(n) + 1e-12 and almost == pytest.approx(divergence(n), abs=1e-3)
