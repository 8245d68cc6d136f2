"""Tokens that are not written."""

import jax.numpy as jnp
import numpy as np

from gpt_jax.registry import register
from gpt_jax.sample.constraints import words as lists
from gpt_jax.sample.processors import Processor, Vocabulary, marked


@register("sample.processors", "suppress", examples=("suppress(words=(5, 7))",))
def suppress(given: Vocabulary, *, words: tuple | list) -> Processor:
    """Removes tokens, those that end a row as well (Hugging Face's suppress_tokens).

    Args:
      words: of one token each.

    Raises:
      UserError: there is no word, or one is not of this vocabulary, or of several tokens.
    """
    return Processor(change, {"ids_BI": np.array(lists.single(given, words, "suppress"), np.int32)})


def change(logits_BV, step, ids_BI):
    return jnp.where(marked(ids_BI, logits_BV.shape[1]), -jnp.inf, logits_BV)
