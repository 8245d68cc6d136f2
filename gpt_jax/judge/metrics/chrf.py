"""chrF (Popović 2015) and chrF++ (2017): an F score of n-grams of characters, and of words, as sacrebleu computes it."""

from typing import Annotated

from gpt_jax.judge.metrics import Metric
from gpt_jax.judge.metrics.corpus import sacrebleu
from gpt_jax.limits import Limits
from gpt_jax.registry import register


@register("judge.metrics", "chrf", examples=("chrf", "chrf(word_order=2)"))
def chrf(*, word_order: Annotated[int, Limits(0, 6)] = 0) -> Metric:
    """Of the corpus, from 0 to 100.

    Args:
      word_order: the longest n-grams of words; 2 = chrF++.
    """
    return sacrebleu("chrf" + "+" * word_order, "CHRF", word_order=word_order)
