"""The best of n samples beside all subsets of them, one by one."""

import itertools
import math

import numpy as np
import pytest

from gpt_jax.errors import UserError
from gpt_jax.study.compare.best_of_n import divergence, expected, pass_at, shares

N = 7


def by_hand(proxy_N: np.ndarray, gold_N: np.ndarray, n: int) -> float:
    """Over all subsets, the mean gold reward of those of them that the proxy likes best."""
    found = []
    for subset in itertools.combinations(range(len(proxy_N)), n):
        rows = np.array(subset)
        found.append(gold_N[rows[proxy_N[rows] == proxy_N[rows].max()]].mean())
    return float(np.mean(found))


@pytest.mark.parametrize("levels", [1, 2, 4, 1000])
def test_the_best_of_n_is_the_mean_over_all_subsets(levels):
    """With proxies that are often alike, or never."""
    draw = np.random.default_rng(levels)
    proxy_PN, gold_PN = draw.integers(levels, size=(4, N)), draw.normal(size=(4, N))
    n, found_Pn = expected(proxy_PN, gold_PN)
    assert list(n) == list(range(1, N + 1))
    wanted_Pn = [[by_hand(*both, size) for size in n] for both in zip(proxy_PN, gold_PN, strict=True)]
    np.testing.assert_allclose(found_Pn, wanted_Pn, rtol=1e-12)
    np.testing.assert_allclose(found_Pn[:, 0], gold_PN.mean(1), rtol=1e-12)


def test_without_a_gold_reward_it_is_the_proxys_own():
    proxy_PN = np.random.default_rng(0).normal(size=(3, N))
    sizes, found_Pn = expected(proxy_PN, n=(N, 2))
    assert list(sizes) == [N, 2]
    np.testing.assert_allclose(found_Pn[:, 0], proxy_PN.max(1))
    np.testing.assert_allclose(found_Pn[:, 1], [by_hand(row, row, 2) for row in proxy_PN])


@pytest.mark.parametrize("samples, n", [(60_000, 1), (60_000, 2), (60_000, 1000), (60_000, 59_999), (60_000, 60_000)])
def test_of_many_samples_shares_keep_their_digits(samples, n):
    found_N = shares(samples, n)
    assert abs(found_N.sum() - 1) < 1e-11 and np.isfinite(found_N).all()
    for i in (samples - 1, samples - 2, samples - 40):
        exact = math.comb(i, n - 1) / math.comb(samples, n) if n < 3 or n > samples - 3 else None
        logs = [
            math.lgamma(a + 1) - math.lgamma(b + 1) - math.lgamma(a - b + 1)
            for a, b in ((i, n - 1), (samples, n))
            if b <= a
        ]
        wanted = exact if exact is not None else math.exp(logs[0] - logs[1])
        assert found_N[i] == pytest.approx(wanted, rel=1e-9 if exact is not None else 1e-5)


@pytest.mark.parametrize("k", [1, 3, N])
def test_pass_at_k_is_the_share_of_subsets_with_a_correct_sample(k):
    found_P = pass_at(k, np.arange(N + 1), N)
    for correct, found in enumerate(found_P):
        subsets = list(itertools.combinations([1] * correct + [0] * (N - correct), k))
        assert found == pytest.approx(np.mean([any(subset) for subset in subsets]), abs=1e-12)


def test_pass_at_k_is_the_best_of_k_of_rewards_that_are_0_or_1():
    draw = np.random.default_rng(0)
    correct_PN = draw.integers(2, size=(20, 50)).astype(float) * (draw.random((20, 1)) < 0.8)
    _, best_Pn = expected(correct_PN)
    for k in (1, 2, 10, 50):
        np.testing.assert_allclose(pass_at(k, correct_PN.sum(1).astype(int), 50), best_Pn[:, k - 1], atol=1e-12)


def test_the_divergence_of_the_best_of_n():
    assert divergence(1) == 0 and divergence(2) == pytest.approx(math.log(2) - 0.5)
    assert divergence(np.array([1, 4])).tolist() == pytest.approx([0, math.log(4) - 0.75])


@pytest.mark.parametrize(
    "call",
    [
        lambda: expected(np.zeros((2, 3)), np.zeros((2, 4))),
        lambda: expected(np.zeros(3)),
        lambda: expected(np.zeros((2, 0))),
        lambda: expected(np.full((1, 2), np.nan)),
        lambda: expected(np.zeros((1, 3)), n=(4,)),
        lambda: expected(np.zeros((1, 3)), n=(0,)),
        lambda: pass_at(0, np.zeros(2, int), 3),
        lambda: pass_at(4, np.zeros(2, int), 3),
        lambda: pass_at(1, np.array([4]), 3),
    ],
)
def test_what_has_no_answer_is_refused(call):
    with pytest.raises(UserError):
        call()
