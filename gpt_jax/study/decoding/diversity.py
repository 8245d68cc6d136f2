"""Diversity of a corpus of texts of token ids: distinct-n, self-BLEU, and the laws of Zipf and Heaps."""

import math
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

ORDER = 4  # of self-BLEU
RANKS = 5000  # of Zipf's law, at most (Holtzman et al. 2020)
POINTS = 32  # of Heaps' law

Texts = Sequence[np.ndarray]


def ngrams(texts: Texts, n: int) -> list[np.ndarray]:
    """The n-grams of each text in order, as numbers that are equal where n-grams are."""
    found = [np.zeros((max(len(ids) - n + 1, 0), n), np.int64) for ids in texts]
    for grams, ids in zip(found, texts, strict=True):
        if len(grams):
            grams[:] = np.lib.stride_tricks.sliding_window_view(ids, n)
    _, numbers = np.unique(np.concatenate(found), axis=0, return_inverse=True)
    return np.split(numbers.ravel(), np.cumsum([len(grams) for grams in found])[:-1])


def distinct(grams: Texts) -> float:
    """distinct-n: distinct n-grams / n-grams of a corpus (Li et al. 2016, section 5.2), of ``ngrams``."""
    joined = np.concatenate(grams)
    return len(np.unique(joined)) / max(len(joined), 1)


def zipf(texts: Texts) -> float:
    """The exponent s of frequency ~ rank^-s, by least squares of the logarithms (Holtzman et al. 2020, section 5.2)."""
    counts = np.unique(np.concatenate(texts), return_counts=True)[1]
    frequencies = np.sort(counts)[::-1][:RANKS]
    return -_slope(np.arange(1, len(frequencies) + 1), frequencies)


def heaps(texts: Texts) -> float:
    """The exponent b of distinct tokens ~ tokens^b as the corpus is read (Heaps 1978), by least squares of the logarithms
    at sizes that grow by a factor."""
    joined = np.concatenate(texts)
    new = np.zeros(len(joined), bool)
    new[np.unique(joined, return_index=True)[1]] = True
    sizes = np.unique(np.geomspace(1, len(joined), POINTS).astype(int))
    return _slope(sizes, np.cumsum(new)[sizes - 1])


def self_bleu(texts: Texts) -> np.ndarray:
    """BLEU-4 of each text with all others as references, from 0 to 1 (Zhu et al. 2018).

    Over token ids; exponential smoothing, orders as far as the text has n-grams: what sacrebleu's ``sentence_score`` gives
    for the ids as words.
    """
    matched = np.zeros((len(texts), ORDER), int)
    totals = np.zeros((len(texts), ORDER), int)
    for n in range(ORDER):
        counts = [Counter(map(tuple, np.lib.stride_tricks.sliding_window_view(t, n + 1).tolist())) if len(t) > n else
                  Counter() for t in texts]  # fmt: skip
        first, second = _largest_two(counts)
        for i, count in enumerate(counts):
            totals[i, n] = count.total()
            matched[i, n] = sum(min(c, (second if first[g][1] == i else first)[g][0]) for g, c in count.items())
    lengths = np.array([len(text) for text in texts])
    return np.array([_bleu(matched[i], totals[i], lengths, i) for i in range(len(texts))])


def influence(statistic: Callable[[Texts], float], texts: Texts) -> np.ndarray:
    """What each text contributes to a statistic of a corpus, [P]: numbers whose mean is the statistic, and whose spread is
    its jackknife error (Efron & Tibshirani 1993, chapter 11).

    A bootstrap over texts would draw some of them twice, which by itself makes a corpus less diverse.
    """
    without = [statistic([*texts[:i], *texts[i + 1 :]]) for i in range(len(texts))]
    return around(statistic(texts), np.array(without))


def around(whole: float, without_P: np.ndarray) -> np.ndarray:
    """See ``influence``: of a statistic of all texts, and those with each text left out."""
    return whole + (len(without_P) - 1) * (without_P.mean() - without_P)


def _slope(x: np.ndarray, y: np.ndarray) -> float:
    """Of log y against log x; 0 for a single point."""
    return float(np.polyfit(np.log(x), np.log(y), 1)[0]) if len(x) > 1 else 0.0


def _largest_two(counts: Sequence[Counter]) -> tuple[dict, dict]:
    """n-gram -> (its largest count in a text, which text), and the same of the second largest."""
    first: dict[tuple, tuple[int, int]] = {}
    second: dict[tuple, tuple[int, int]] = {}
    for i, count in enumerate(counts):
        for gram, c in count.items():
            best, runner_up = first.setdefault(gram, (0, -1)), second.setdefault(gram, (0, -1))
            if c > best[0]:
                first[gram], second[gram] = (c, i), best
            elif c > runner_up[0]:
                second[gram] = (c, i)
    return first, second


def _bleu(matched: np.ndarray, totals: np.ndarray, lengths: np.ndarray, own: int) -> float:
    if not matched.any():
        return 0.0
    others = np.delete(lengths, own)
    closest = min(others, key=lambda length: (abs(length - lengths[own]), length))
    logs, halves = [], 1.0
    for hits, total in zip(matched, totals, strict=True):
        if not total:
            break
        halves *= 1 if hits else 2
        logs.append(math.log(hits / total if hits else 1 / (halves * total)))
    return math.exp(min(0.0, 1 - closest / lengths[own]) + sum(logs) / len(logs))
