"""Exact match and F1 of words as SQuAD has them (Rajpurkar et al. 2016), the best over the right answers."""

import re
import string
from collections import Counter
from collections.abc import Callable

from gpt_jax.judge.metrics import Metric, best_of, means
from gpt_jax.judge.problems import Answered
from gpt_jax.registry import register

ARTICLES = re.compile(r"\b(?:a|an|the)\b")
PUNCTUATION = str.maketrans("", "", string.punctuation)


@register("judge.metrics", "squad")
def squad() -> Metric:
    """Figures from 0 to 1; the script of SQuAD has them in percent."""

    def values(answer: Answered) -> list[float]:
        scores: tuple[Callable[[str, str], float], ...] = (exact_match, f1)
        return [best_of(score, answer.texts[0], answer.problem.answers) for score in scores]

    return means(("squad_exact", "squad_f1"), values)


def normalised(text: str) -> str:
    """Small letters, without punctuation, then without articles, then with single blanks."""
    return " ".join(ARTICLES.sub(" ", text.lower().translate(PUNCTUATION)).split())


def exact_match(text: str, reference: str) -> float:
    return float(normalised(text) == normalised(reference))


def f1(text: str, reference: str) -> float:
    """Of the words, each as often as it stands there. Two texts without words are alike (SQuAD 2.0)."""
    said, wanted = normalised(text).split(), normalised(reference).split()
    if not said or not wanted:
        return float(said == wanted)
    common = (Counter(said) & Counter(wanted)).total()
    return 2 * common / (len(said) + len(wanted))
