"""A text of some length at least."""

import jax.numpy as jnp
import numpy as np

from gpt_jax.limits import Natural
from gpt_jax.registry import register
from gpt_jax.sample.processors import Processor, Vocabulary


@register("sample.processors", "min_new_tokens", examples=("min_new_tokens(tokens=3)",))
def min_new_tokens(given: Vocabulary, *, tokens: Natural) -> Processor:
    """Removes the tokens that end a text until so many have been written (Hugging Face)."""
    return Processor(change, {"tokens_B": np.int32(tokens)})


def change(logits_BV, step, tokens_B):
    early_B1 = (step.written_B < tokens_B)[:, None]
    return jnp.where(early_B1 & step.stops_BV(logits_BV.shape[1]), -jnp.inf, logits_BV)
