"""What is measured of a corpus of texts: a value a prompt, so that all metrics have the same intervals and differences."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gpt_jax.study.compare.statistics import ALPHA, Interval, bootstrap_interval
from gpt_jax.study.decoding import diversity, frontier
from gpt_jax.study.decoding.repetition import ends_in_loop, rep, seq_rep
from gpt_jax.study.decoding.scores import Scores

OWN, SECOND = "own", "second"  # the models that score texts


@dataclass(frozen=True)
class Corpus:
    """A text after each of P prompts.

    Args:
      prompts, texts: token ids.
      scores: of each text, by the model itself and perhaps by a second one.
      gains: log q - log p of each token, of the distribution q that it was drawn from and the model's own p; None for human
        text.
    """

    prompts: Sequence[np.ndarray]
    texts: Sequence[np.ndarray]
    scores: Mapping[str, Sequence[Scores]]
    gains: Sequence[np.ndarray] | None


@dataclass(frozen=True)
class Metric:
    """A measure of a corpus, beside human text after the same prompts.

    Args:
      title: as tables have it.
      meaning: what it is and where it comes from.
      measure: (corpus, human) -> a value a prompt whose mean is the metric, [P]; None where it is not defined.
    """

    title: str
    meaning: str
    measure: Callable[[Corpus, Corpus], np.ndarray | None]


@dataclass(frozen=True)
class Estimate:
    """A mean over prompts and its 95% bootstrap interval (BCa, resampling prompts); None where there are too few prompts, or
    where all have the same value."""

    value: float
    interval: Interval | None

    def __str__(self) -> str:
        if self.interval is None:
            return f"{self.value:.3g}"
        return f"{self.value:.3g} [{self.interval.low:.3g}, {self.interval.high:.3g}]"


def estimate(values_P: np.ndarray) -> Estimate:
    return Estimate(float(np.mean(values_P)), bootstrap_interval(values_P.tolist(), 1 - ALPHA))


def differs(ours_P: np.ndarray, theirs_P: np.ndarray) -> bool:
    """Whether the interval of the paired difference excludes 0."""
    interval = estimate(ours_P - theirs_P).interval
    return interval is not None and 0 not in interval


def measure(corpora: Sequence[Corpus], human: Corpus) -> dict[str, np.ndarray]:
    """Metric -> a value a prompt, averaged over the corpora of several seeds."""
    found = {}
    for name, metric in METRICS.items():
        values = [metric.measure(corpus, human) for corpus in corpora]
        defined = [value for value in values if value is not None]
        if defined:
            found[name] = np.mean(defined, axis=0)
    return found


def _each(of_text: Callable[[np.ndarray], float]) -> Callable:
    return lambda corpus, human: np.array([of_text(text) for text in corpus.texts], float)


def _whole(statistic: Callable[[diversity.Texts], float]) -> Callable:
    return lambda corpus, human: diversity.influence(statistic, corpus.texts)


def _distinct(n: int) -> Callable:
    return lambda corpus, human: diversity.influence(diversity.distinct, diversity.ngrams(corpus.texts, n))


def _rep(window: int) -> Callable:
    def measure(corpus, human):
        return np.array([rep(p, t, window) for p, t in zip(corpus.prompts, corpus.texts, strict=True)])

    return measure


def _perplexity(judge: str) -> Callable:
    """exp(nats / tokens) over all texts."""

    def measure(corpus, human):
        if judge not in corpus.scores:
            return None
        nats_P = np.array([-score.logprobs_T.sum() for score in corpus.scores[judge]])
        tokens_P = np.array([len(score.logprobs_T) for score in corpus.scores[judge]])
        without_P = np.exp((nats_P.sum() - nats_P) / (tokens_P.sum() - tokens_P))
        return diversity.around(float(np.exp(nats_P.sum() / tokens_P.sum())), without_P)

    return measure


def _entropy(corpus, human):
    return np.array([score.entropy_T.mean() for score in corpus.scores[OWN]])


def _divergence(corpus, human):
    """KL(q | p) is the mean of log q - log p over tokens drawn from q."""
    return None if corpus.gains is None else np.array([gain_T.mean() for gain_T in corpus.gains])


def _frontier(corpus, human):
    if corpus is human:
        return None
    ours, theirs = ([score.states_SD for score in c.scores[OWN]] for c in (corpus, human))
    counts_PK, human_PK = frontier.histograms(ours, theirs)
    ours_K, theirs_K = counts_PK.sum(0), human_PK.sum(0)
    without_P = frontier.area(theirs_K - human_PK, ours_K - counts_PK)
    return diversity.around(float(frontier.area(theirs_K, ours_K)), without_P)


METRICS: dict[str, Metric] = {
    "perplexity": Metric("perplexity", "exp(nats a token) under the model itself", _perplexity(OWN)),
    "perplexity_second": Metric("second model", "perplexity under the second model", _perplexity(SECOND)),
    "entropy": Metric("entropy", "nats a token, of the model's own distribution in the contexts of the text", _entropy),
    "kl": Metric(
        "KL", "nats a token, of the distribution that was drawn from to the model's own, over drawn tokens", _divergence
    ),
    "frontier": Metric(
        "frontier", "area under MAUVE's divergence frontier, on the model's last states (Pillutla et al. 2021)", _frontier
    ),
    "rep_16": Metric("rep/16", "share of tokens among the 16 before them (Welleck et al. 2020)", _rep(16)),
    "rep_128": Metric("rep/128", "the same, of 128", _rep(128)),
    "seq_rep_2": Metric("seq-rep-2", "share of repeated 2-grams (Welleck et al. 2020)", _each(lambda t: seq_rep(t, 2))),
    "seq_rep_4": Metric("seq-rep-4", "the same, of 4-grams", _each(lambda t: seq_rep(t, 4))),
    "loops": Metric(
        "loops", "share of texts that end with a phrase of two tokens or more, three times (Holtzman et al. 2020)",
        _each(ends_in_loop),
    ),
    "distinct_1": Metric("distinct-1", "distinct tokens / tokens of the corpus (Li et al. 2016)", _distinct(1)),
    "distinct_2": Metric("distinct-2", "the same, of 2-grams", _distinct(2)),
    "distinct_4": Metric("distinct-4", "the same, of 4-grams", _distinct(4)),
    "self_bleu": Metric(
        "self-BLEU", "BLEU-4 of each text with the others as references (Zhu et al. 2018)",
        lambda corpus, human: diversity.self_bleu(corpus.texts),
    ),
    "zipf": Metric("Zipf", "exponent of frequency by rank (Holtzman et al. 2020)", _whole(diversity.zipf)),
    "heaps": Metric("Heaps", "exponent of distinct tokens by tokens (Heaps 1978)", _whole(diversity.heaps)),
    "length": Metric("length", "tokens", _each(len)),
}  # fmt: skip
