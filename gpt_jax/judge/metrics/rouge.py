"""ROUGE-1, -2, -L and -Lsum (Lin 2004), as rouge-score computes them: F scores of common words, the best over references."""

import functools
from typing import Any

from gpt_jax.judge.metrics import Metric, best_of, means, package
from gpt_jax.judge.problems import Answered
from gpt_jax.registry import register

KINDS = ("rouge1", "rouge2", "rougeL", "rougeLsum")


@register("judge.metrics", "rouge", examples=("rouge", "rouge(stemmer=True)"))
def rouge(*, stemmer: bool = False) -> Metric:
    """Figures from 0 to 1; Lsum takes each line for a sentence.

    Args:
      stemmer: whether words are compared by their stems (Porter's).

    Raises:
      UserError: rouge-score is not installed.
    """
    scorer = package("rouge-score", "rouge_score.rouge_scorer", "rouge").RougeScorer(KINDS, use_stemmer=stemmer)

    def values(answer: Answered) -> list[float]:
        return [
            best_of(functools.partial(_f1, scorer, kind), answer.texts[0], answer.problem.answers) for kind in KINDS
        ]

    return means(KINDS, values)


def _f1(scorer: Any, kind: str, text: str, reference: str) -> float:
    return scorer.score(reference, text)[kind].fmeasure
