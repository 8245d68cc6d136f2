"""A penalty on every token that the text has."""

import jax.numpy as jnp

from gpt_jax.limits import Positive
from gpt_jax.registry import register
from gpt_jax.sample.processors import Processor, Vocabulary, marked, normal, saturated


@register("sample.processors", "repetition", examples=("repetition(penalty=1.3)",))
def repetition(given: Vocabulary, *, penalty: Positive) -> Processor:
    """Divides the scores of tokens of the prompt or of what was written by a penalty, and multiplies those below 0
    (Keskar et al. 2019, as in Hugging Face)."""
    return Processor(change, {"penalty_B": normal(penalty)})


def change(logits_BV, step, penalty_B):
    there_BV = marked(step.tokens_BS, logits_BV.shape[1], step.real_BS)
    penalty_B1 = penalty_B[:, None]
    penalised_BV = jnp.where(logits_BV < 0, logits_BV * penalty_B1, logits_BV / penalty_B1)
    return jnp.where(there_BV, saturated(penalised_BV, logits_BV), logits_BV)
