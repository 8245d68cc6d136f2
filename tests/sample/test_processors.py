"""The masks against transformers' definitions written out in NumPy, and the draws against the exact distribution."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from gpt_jax.sample import processors

RANDOM = np.random.default_rng(0)


def peer_top_k(scores, k):
    """TopKLogitsWarper: everything below the k-th largest score goes, its equals stay."""
    if k == 0:
        return scores
    kth = np.sort(scores)[-min(k, len(scores))]
    return np.where(scores < kth, -np.inf, scores)


def peer_top_p(scores, p):
    """TopPLogitsWarper: in ascending order, all with a cumulative probability of at most 1 - p go, the last stays."""
    if p >= 1:
        return scores
    order = np.argsort(scores, kind="stable")
    weights = np.exp(scores[order].astype(np.float64) - scores.max())
    gone = np.cumsum(weights / weights.sum()) <= 1 - p
    gone[-1] = False
    out = scores.copy()
    out[order[gone]] = -np.inf
    return out


def masked(scores_BV, temperature, top_k, top_p):
    rows = len(scores_BV)
    spread = [np.broadcast_to(np.asarray(value, dtype), rows) for value, dtype in
              ((temperature, np.float32), (top_k, np.int32), (top_p, np.float32))]  # fmt: skip
    return np.asarray(jax.jit(processors.mask)(jnp.asarray(scores_BV, jnp.float32), *map(jnp.asarray, spread)))


@pytest.mark.parametrize("vocab", [1, 7, 300, 50257])
def test_top_k(vocab):
    scores = RANDOM.standard_normal((5, vocab)).astype(np.float32)
    ks = np.array([0, 1, 3, vocab, vocab + 5])
    got = masked(scores, 1, ks, 1)
    for row, k in enumerate(ks):
        np.testing.assert_array_equal(np.isfinite(got[row]), np.isfinite(peer_top_k(scores[row], k)))


def test_top_k_keeps_ties_of_both_signs_and_zeros():
    scores = np.array([[2, 1, 1, 1, -3], [-1, -1, -2, -1, -5], [0.0, -0.0, 1, -1, -1]], np.float32)
    kept = np.isfinite(masked(scores, 1, 2, 1))
    assert kept.tolist() == [[True] * 4 + [False], [True, True, False, True, False], [True, True, True, False, False]]


@pytest.mark.parametrize("vocab", [1, 7, 300, 50257])
@pytest.mark.parametrize("p", [1e-6, 0.1, 0.5, 0.9, 0.999, 1.0])
def test_top_p(vocab, p):
    scores = (2 * RANDOM.standard_normal((3, vocab))).astype(np.float32)
    got = masked(scores, 1, 0, p)
    for row, values in enumerate(scores):
        expected = np.isfinite(peer_top_p(values, p))
        # float32 sums may put the cut one token beside where float64 puts it, in 50,257 of them
        assert np.sum(np.isfinite(got[row]) != expected) <= (vocab > 1000), (row, p)


def test_top_p_drops_equals_by_position():
    """Eight tokens of 1/8 each: p = 0.4 keeps the last four, as 1 - p removes the first four by position."""
    assert np.isfinite(masked(np.zeros((1, 8)), 1, 0, 0.4)).tolist() == [[False] * 4 + [True] * 4]
    scores = np.log(np.array([[4, 1, 1, 1, 1]], np.float32) / 8)
    assert np.isfinite(masked(scores, 1, 0, 0.7)).tolist() == np.isfinite(peer_top_p(scores[0], 0.7))[None].tolist()


def test_the_order_is_temperature_then_top_k_then_top_p():
    scores = (3 * RANDOM.standard_normal((1, 40))).astype(np.float32)
    temperature, k, p = 2.5, 10, 0.8
    expected = np.isfinite(peer_top_p(peer_top_k(scores[0] / temperature, k), p))
    others = [
        peer_top_p(peer_top_k(scores[0], k), p),
        peer_top_k(peer_top_p(scores[0] / temperature, p), k),
    ]
    assert any(not np.array_equal(np.isfinite(other), expected) for other in others), "this case does not tell"
    np.testing.assert_array_equal(np.isfinite(masked(scores, temperature, k, p)[0]), expected)


def test_rows_have_their_own_settings():
    scores = np.tile((3 * RANDOM.standard_normal(60)).astype(np.float32), (4, 1))
    together = masked(scores, [1, 0.5, 2, 1], [0, 5, 0, 3], [1, 1, 0.3, 0.9])
    alone = [masked(scores[:1], t, k, p)[0] for t, k, p in ((1, 0, 1), (0.5, 5, 1), (2, 0, 0.3), (1, 3, 0.9))]
    np.testing.assert_array_equal(together, alone)


@pytest.mark.parametrize("temperature", [1e-30, 1e-4, 1e4])
def test_extreme_temperatures_stay_finite(temperature):
    got = masked([[1e3, -1e3, 0.5]], temperature, 0, 1)
    assert not np.isnan(got).any() and got[0, 0] == 0


@pytest.mark.parametrize("t, k, p", [(1.0, 0, 1.0), (0.7, 0, 1.0), (1.3, 6, 1.0), (1.0, 0, 0.8), (1.5, 20, 0.7)])
def test_draws_follow_the_masked_softmax(t, k, p):
    vocab, draws = 600, 20_000  # more than two blocks
    scores = (2 * RANDOM.standard_normal(vocab)).astype(np.float32)
    kept = peer_top_p(peer_top_k(scores / np.float32(t), k), p).astype(np.float64)
    exact = np.exp(kept - kept.max())
    exact /= exact.sum()
    keys = jax.random.split(jax.random.key(11), draws)
    masked_V = masked(scores[None], t, k, p)[0]
    drawn = np.asarray(jax.jit(lambda keys: jax.lax.map(lambda key: one_draw(masked_V, key), keys))(keys))
    counts = np.bincount(drawn, minlength=vocab)
    assert np.all(counts[exact == 0] == 0)
    common = exact * draws >= 5
    observed, expected = counts[common], exact[common] * draws
    if not common.all():
        observed, expected = (
            np.append(observed, counts[~common].sum()),
            np.append(expected, exact[~common].sum() * draws),
        )
    observed, expected = observed[expected > 0], expected[expected > 0]
    assert stats.chisquare(observed, expected * observed.sum() / expected.sum()).pvalue > 1e-4


def one_draw(masked_V, key):
    return processors.draw(jnp.asarray(masked_V)[None], key[None])[0]


def test_the_chi_square_test_can_fail():
    """A draw from the scores without their temperature does not pass for one with it."""
    scores = (2 * RANDOM.standard_normal(50)).astype(np.float32)
    keys = jax.random.split(jax.random.key(1), 20_000)
    drawn = np.asarray(jax.vmap(lambda key: one_draw(scores, key))(keys))
    wrong = np.exp(scores.astype(np.float64) / 1.2)
    assert stats.chisquare(np.bincount(drawn, minlength=50), wrong / wrong.sum() * len(drawn)).pvalue < 1e-6


def test_a_draw_never_takes_what_has_no_weight():
    """Numbers at both ends of [0, 1), weights of 0 at both ends of a block, and sums that round."""
    weights = np.full(257, 0.1, np.float32)
    weights[[0, 1, 255, 256]] = 0
    for uniform in (0.0, 1e-7, 0.5, np.nextafter(np.float32(1), np.float32(0))):
        index = int(processors._invert(jnp.asarray(weights), jnp.float32(uniform)))
        assert weights[index] > 0
    assert int(processors._invert(jnp.asarray(weights), jnp.float32(0))) == 2


def test_choose_mixes_greedy_and_drawn_rows():
    scores = np.tile(RANDOM.standard_normal(50).astype(np.float32), (3, 1))
    scores[:, 7] = scores[:, 3] = scores.max() + 1  # among equals the first
    keys_B = jax.random.split(jax.random.key(0), 3)
    temperature, k, p = jnp.array([0.0, 1.0, 0.0]), jnp.zeros(3, jnp.int32), jnp.ones(3)
    got = processors.choose(jnp.asarray(scores), temperature, k, p, keys_B)
    assert got[0] == got[2] == 3 and got.dtype == jnp.int32
    assert got[1] == processors.choose(jnp.asarray(scores[1:2]), *(a[1:2] for a in (temperature, k, p, keys_B)))[0]
