"""BLEU (Papineni et al. 2002), as sacrebleu computes it (Post 2018)."""

from gpt_jax.judge.metrics import Metric
from gpt_jax.judge.metrics.corpus import sacrebleu
from gpt_jax.registry import register


@register("judge.metrics", "bleu", examples=("bleu", "bleu(lowercase=True)"))
def bleu(*, lowercase: bool = False) -> Metric:
    """Of the corpus, from 0 to 100, with sacrebleu's defaults: tokenizer 13a, exponential smoothing."""
    return sacrebleu("bleu", "BLEU", lowercase=lowercase)
