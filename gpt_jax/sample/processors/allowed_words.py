"""The only words that are written."""

import jax.numpy as jnp
import numpy as np

from gpt_jax.registry import register
from gpt_jax.sample.constraints import words as lists
from gpt_jax.sample.processors import Processor, Vocabulary, marked


@register("sample.processors", "allowed_words", examples=("allowed_words(words=(5, (7, 3), 11))",))
def allowed_words(given: Vocabulary, *, words: tuple | list) -> Processor:
    """Keeps the tokens that the words are made of, in any order, and what ends the row (as vLLM's allowed_token_ids).

    Raises:
      UserError: there is no word, or one is not of this vocabulary.
    """
    found = sorted({i for ids in lists.all_forms(given, words, "allowed_words") for i in ids})
    return Processor(change, {"ids_BI": np.array(found, np.int32)})


def change(logits_BV, step, ids_BI):
    vocab = logits_BV.shape[1]
    return jnp.where(marked(ids_BI, vocab) | step.stops_BV(vocab), logits_BV, -jnp.inf)
