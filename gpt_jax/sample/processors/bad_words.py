"""Words that are not written."""

import jax.numpy as jnp

from gpt_jax.registry import register
from gpt_jax.sample.constraints import words as lists
from gpt_jax.sample.processors import Processor, Vocabulary, marked


@register("sample.processors", "bad_words", examples=("bad_words(words=(5, (7, 3)))",))
def bad_words(given: Vocabulary, *, words: tuple | list) -> Processor:
    """Removes each word's last token where the text ends with its others (Hugging Face's bad_words_ids).

    As there, a word that is a stop id alone is no bad word.

    Raises:
      UserError: there is no word, or one is not of this vocabulary.
    """
    found = [ids for ids in lists.all_forms(given, words, "bad_words") if ids not in {(i,) for i in given.stop_ids}]
    return Processor(change, lists.arrays(found))


def change(logits_BV, step, last_BW, before_BWL):
    return jnp.where(marked(last_BW, logits_BV.shape[1], lists.due(step, before_BWL)), -jnp.inf, logits_BV)
