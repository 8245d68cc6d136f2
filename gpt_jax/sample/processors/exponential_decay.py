"""An end that gets likelier with every token."""

import jax.numpy as jnp
import numpy as np

from gpt_jax.limits import LARGEST_FLOAT, Natural, Positive
from gpt_jax.registry import register
from gpt_jax.sample.processors import Processor, Vocabulary, saturated


@register("sample.processors", "exponential_decay", examples=("exponential_decay(start=1, factor=1.1)",))
def exponential_decay(given: Vocabulary, *, start: Natural, factor: Positive) -> Processor:
    """Adds |score| (factor^n - 1) to the scores of the tokens that end a text, n tokens after the first ``start`` ones
    (Hugging Face)."""
    return Processor(change, {"start_B": np.int32(start), "log_B": np.float32(np.log(factor))})


def change(logits_BV, step, start_B, log_B):
    beyond_B = jnp.maximum(step.written_B - start_B, 0)
    gain_B = jnp.minimum(jnp.expm1(beyond_B * log_B), LARGEST_FLOAT)
    raised_BV = saturated(logits_BV + jnp.abs(logits_BV) * gain_B[:, None], logits_BV)
    return jnp.where(step.stops_BV(logits_BV.shape[1]), raised_BV, logits_BV)
