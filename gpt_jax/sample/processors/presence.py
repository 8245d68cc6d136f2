"""A penalty on every token that was written."""

import jax.numpy as jnp
import numpy as np

from gpt_jax.limits import Signed
from gpt_jax.registry import register
from gpt_jax.sample.history import written_BS
from gpt_jax.sample.processors import Processor, Vocabulary, marked, saturated


@register("sample.processors", "presence", examples=("presence(penalty=0.6)",))
def presence(given: Vocabulary, *, penalty: Signed) -> Processor:
    """Takes a penalty off the scores of tokens that were written after the prompt (OpenAI's API, as in vLLM)."""
    return Processor(change, {"penalty_B": np.float32(penalty)})


def change(logits_BV, step, penalty_B):
    there_BV = marked(step.tokens_BS, logits_BV.shape[1], written_BS(step))
    return jnp.where(there_BV, saturated(logits_BV - penalty_B[:, None], logits_BV), logits_BV)
