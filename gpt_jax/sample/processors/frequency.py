"""A penalty for every time that a token was written."""

import numpy as np

from gpt_jax.limits import Signed
from gpt_jax.registry import register
from gpt_jax.sample.history import counts, written_BS
from gpt_jax.sample.processors import Processor, Vocabulary, saturated


@register("sample.processors", "frequency", examples=("frequency(penalty=0.4)",))
def frequency(given: Vocabulary, *, penalty: Signed) -> Processor:
    """Takes a penalty off a token's score for every time that it was written after the prompt (OpenAI's API, as in vLLM)."""
    return Processor(change, {"penalty_B": np.float32(penalty)})


def change(logits_BV, step, penalty_B):
    counts_BV = counts(step, written_BS(step), logits_BV.shape[1])
    return saturated(logits_BV - penalty_B[:, None] * counts_BV, logits_BV)
