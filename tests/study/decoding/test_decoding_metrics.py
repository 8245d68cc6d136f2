"""Metrics of texts against their definitions, written out, and against sacrebleu; intervals cover what they should."""

import math
from collections import Counter

import numpy as np
import pytest
import sacrebleu

from gpt_jax.study.decoding import diversity, frontier, metrics, repetition
from gpt_jax.study.decoding.metrics import METRICS, OWN, Corpus, estimate
from gpt_jax.study.decoding.scores import Scores


def drawn(seed: int, texts: int = 12, most: int = 40, vocab: int = 9) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.integers(vocab, size=rng.integers(1, most)) for _ in range(texts)]


def grams(ids, n: int) -> list[tuple]:
    return [tuple(ids[i : i + n].tolist()) for i in range(len(ids) - n + 1)]


def corpus(texts, logprobs=None, states=None, gains=None) -> Corpus:
    blank = np.zeros((1, 1))
    scores = [
        Scores(
            -np.ones(len(text)) if logprobs is None else logprobs[i],
            np.full(len(text), 0.5),
            blank if states is None else states[i],
            blank,
            blank,
        )
        for i, text in enumerate(texts)
    ]
    return Corpus([np.array([0, 1])] * len(texts), texts, {OWN: scores}, gains)


@pytest.mark.parametrize("seed", range(5))
def test_repetition_within_a_text(seed):
    for ids in drawn(seed):
        for n in (1, 2, 4):
            found = grams(ids, n)
            expected = 1 - len(set(found)) / len(found) if found else 0.0
            assert repetition.seq_rep(ids, n) == pytest.approx(expected)
            seen = [gram in found[:i] for i, gram in enumerate(found)]
            assert repetition.seen_before(ids, n).tolist() == seen
        whole = [3, 5, *ids.tolist()]
        repeated = [whole[t] in whole[max(0, t - 6) : t] for t in range(2, len(whole))]
        assert repetition.rep(np.array([3, 5]), ids, 6) == pytest.approx(np.mean(repeated))


@pytest.mark.parametrize(
    "ids, loops",
    [
        ([1, 2, 3, 4, 5, 6, 7], False),
        ([9, 1, 2, 1, 2, 1, 2], True),
        ([9, 1, 2, 1, 2, 1], False),
        ([7, 7, 7, 7, 7, 7], True),
        ([7, 7, 7, 7, 7], False),
        ([1, 2, 3, 1, 2, 3, 1, 2, 3, 4], False),
        ([8, *[1, 2, 3, 4, 5] * 3], True),
        ([], False),
    ],
)
def test_loops(ids, loops):
    assert repetition.ends_in_loop(np.array(ids, int)) is loops


@pytest.mark.parametrize("seed", range(3))
def test_diversity_of_a_corpus(seed):
    texts = drawn(seed)
    for n in (1, 2, 3):
        found = [gram for ids in texts for gram in grams(ids, n)]
        assert diversity.distinct(diversity.ngrams(texts, n)) == pytest.approx(len(set(found)) / len(found))
    joined = np.concatenate(texts).tolist()
    counts = sorted(Counter(joined).values(), reverse=True)
    x, y = np.log(np.arange(1, len(counts) + 1)), np.log(counts)
    assert diversity.zipf(texts) == pytest.approx(-np.cov(x, y, bias=True)[0, 1] / x.var())


def test_laws_are_found_where_they_hold():
    ranked = [np.repeat(np.arange(1, 50), np.round(5000 / np.arange(1, 50) ** 1.2).astype(int))]
    assert diversity.zipf(ranked) == pytest.approx(1.2, abs=0.02)
    sizes = np.arange(1, 4000)
    fresh = np.diff(np.floor(sizes**0.6), prepend=0) > 0
    assert diversity.heaps([np.where(fresh, np.cumsum(fresh), 1)]) == pytest.approx(0.6, abs=0.05)


@pytest.mark.parametrize("seed", range(3))
def test_self_bleu_is_that_of_sacrebleu(seed):
    texts = drawn(seed, vocab=5)
    words = [" ".join(map(str, ids)) for ids in texts]
    judge = sacrebleu.BLEU(tokenize="none", effective_order=True)
    expected = [judge.sentence_score(w, words[:i] + words[i + 1 :]).score / 100 for i, w in enumerate(words)]
    np.testing.assert_allclose(diversity.self_bleu(texts), expected, atol=1e-9)


def test_influences_have_the_statistic_as_their_mean():
    texts = drawn(7)
    values = diversity.influence(diversity.heaps, texts)
    assert values.mean() == pytest.approx(diversity.heaps(texts))
    of_means = diversity.influence(lambda found: float(np.mean([len(ids) for ids in found])), texts)
    np.testing.assert_allclose(of_means, [len(ids) for ids in texts])  # of a mean, they are its values


def test_intervals_of_a_corpus_statistic_cover_its_expectation():
    def experiment(rng, count=24):
        return [rng.choice(40, size=20, p=weights) for _ in range(count)]

    rng = np.random.default_rng(0)
    weights = 1 / np.arange(1, 41)
    weights /= weights.sum()

    def statistic(texts):
        return diversity.distinct(diversity.ngrams(texts, 2))

    found = [statistic(experiment(rng)) for _ in range(200)]
    intervals = [estimate(diversity.influence(statistic, experiment(rng))).interval for _ in range(50)]
    assert np.mean([np.mean(found) in interval for interval in intervals]) >= 0.87
    assert np.mean([i.high - i.low for i in intervals]) < 1.5 * 2 * 1.96 * np.std(found)


def test_the_frontier_of_equal_and_of_disjoint_distributions():
    p = np.array([0.2, 0.3, 0.5, 0, 0])
    q = np.array([0, 0, 0, 0.6, 0.4])
    assert frontier.area(p, p) == pytest.approx(1)
    assert frontier.area(p, q) == pytest.approx(5 * math.gamma(6) * math.gamma(5) / math.gamma(11), abs=2e-3)
    between = frontier.area(p, 0.5 * p + 0.5 * q)
    assert 0.1 < between < 0.9 and between == pytest.approx(frontier.area(0.5 * p + 0.5 * q, p))
    both = frontier.area(np.stack([p, p]), np.stack([p, q]))
    np.testing.assert_allclose(both, [frontier.area(p, p), frontier.area(p, q)])


def test_states_of_one_distribution_are_hard_to_tell_from_each_other():
    rng = np.random.default_rng(0)
    near, far = rng.standard_normal((2, 16, 30, 6)), rng.standard_normal((16, 30, 6)) + 3
    same = frontier.area(*(counts.sum(0) for counts in frontier.histograms(*near)))
    apart = frontier.area(*(counts.sum(0) for counts in frontier.histograms(near[0], far)))
    assert same > 0.9 and apart < 0.5
    again = frontier.histograms(*near)
    assert all((a == b).all() for a, b in zip(again, frontier.histograms(*near), strict=True))


def test_likelihoods():
    texts = drawn(1, texts=5)
    rng = np.random.default_rng(0)
    logprobs = [-rng.random(len(ids)) for ids in texts]
    own = corpus(texts, logprobs, gains=[np.full(len(ids), 0.25) for ids in texts])
    found = metrics.measure([own], own)
    assert found["perplexity"].mean() == pytest.approx(np.exp(-np.concatenate(logprobs).mean()))
    expected = diversity.influence(lambda some: float(np.exp(-np.concatenate(some).mean())), logprobs)
    np.testing.assert_allclose(found["perplexity"], expected)
    assert found["kl"].tolist() == [0.25] * 5 and found["entropy"].tolist() == [0.5] * 5
    assert found["length"].tolist() == [len(ids) for ids in texts]
    assert "perplexity_second" not in found and "frontier" not in found


def test_several_seeds_are_averaged_and_differences_are_paired():
    first, second = (corpus(drawn(seed), states=[np.eye(3)] * 12) for seed in (0, 1))
    both = metrics.measure([first, second], second)
    alone = [metrics.measure([found], second) for found in (first, second)]
    np.testing.assert_allclose(both["seq_rep_2"], (alone[0]["seq_rep_2"] + alone[1]["seq_rep_2"]) / 2)
    assert set(both) == set(METRICS) - {"kl", "perplexity_second"}
    values = np.random.default_rng(0).standard_normal(40)
    assert metrics.differs(values + 0.01 + 0.001 * values, values) and not metrics.differs(values, values[::-1])
