"""Words that a row has to write before it may end."""

import jax
import jax.numpy as jnp
import numpy as np

from gpt_jax.registry import register
from gpt_jax.sample.constraints import words as lists
from gpt_jax.sample.processors import NONE, Processor, Step, Vocabulary

NEVER = 2**30  # more tokens than any row may write


@register("sample.processors", "forced_words", examples=("forced_words(words=(5, (7, 3)))",))
def forced_words(given: Vocabulary, *, words: tuple | list) -> Processor:
    """Every word appears among the new tokens, in one of its forms, before the row ends (lexical constraints, as in Hokamp
    and Liu 2017).

    What ends the row is removed until then. A row writes freely as long as the words that are missing would fit behind one
    more token, each in its shortest form. After that only their tokens are left: the word first that needs the fewest,
    so the one that the text has begun, and among equals the first of the list. A row without room for all of them is left no
    token.

    Raises:
      UserError: there is no word, or one is not of this vocabulary.
    """
    lists.all_forms(given, words, "forced_words")
    found = [lists.forms(given, word, "forced_words") for word in dict.fromkeys(map(_hashable, words))]
    shape = (len(found), max(map(len, found)), max(len(ids) for ways in found for ids in ways))
    forms_WFL = np.full(shape, NONE, np.int32)
    for word, ways in enumerate(found):
        for form, ids in enumerate(ways):
            forms_WFL[word, form, : len(ids)] = ids
    return Processor(change, {"forms_BWFL": forms_WFL, "seen_BW": np.zeros(len(found), np.int32)}, advance=advance)


def change(logits_BV, step, forms_BWFL, seen_BW):
    length_BWF = (forms_BWFL >= 0).sum(-1)
    cost_BWF = jnp.where(length_BWF > 0, length_BWF, NEVER)
    missing_BW = (seen_BW == 0) & (cost_BWF.min(-1) < NEVER)
    whole_BW = jnp.where(missing_BW, cost_BWF.min(-1), 0)
    begun_BWF = begun(step, forms_BWFL)
    # What is still to be written if the word's form comes next, and the other words after it.
    total_BWF = whole_BW.sum(-1)[:, None, None] - whole_BW[..., None] + cost_BWF - begun_BWF
    total_BX = jnp.where(missing_BW[..., None], total_BWF, NEVER).reshape(len(forms_BWFL), -1)
    next_BWF = jnp.take_along_axis(forms_BWFL, begun_BWF[..., None], axis=-1)[..., 0]
    next_B1 = jnp.take_along_axis(next_BWF.reshape(total_BX.shape), total_BX.argmin(-1)[:, None], axis=-1)
    room_B = step.limit_B - step.written_B
    any_B1 = missing_BW.any(-1, keepdims=True)
    forced_B1 = any_B1 & (whole_BW.sum(-1) > room_B - 1)[:, None]
    fits_B1 = (total_BX.min(-1) <= room_B)[:, None]
    only_BV = (jnp.arange(logits_BV.shape[1]) == next_B1) & fits_B1
    kept_BV = jnp.where(forced_B1, only_BV, ~(any_B1 & step.stops_BV(logits_BV.shape[1])))
    return jnp.where(kept_BV, logits_BV, -jnp.inf)


def begun(step: Step, forms_BWFL) -> jax.Array:
    """How many ids of each form the new text ends with, fewer than all of them, [B, W, F]."""
    longest = forms_BWFL.shape[-1] - 1
    recent_BL = lists.recent(step, longest, step.prompt_B)
    found_BWF = jnp.zeros(forms_BWFL.shape[:-1], jnp.int32)
    for count in range(1, longest + 1):
        same_BWF = (forms_BWFL[..., :count] == recent_BL[:, None, None, count - 1 :: -1][..., :count]).all(-1)
        found_BWF = jnp.where(same_BWF & (forms_BWFL[..., count] >= 0), count, found_BWF)
    return found_BWF


def advance(logits_BV, tokens_B, step, forms_BWFL, seen_BW):
    """A word has been seen once a form's ids but the last were there, and the token is the last."""
    longest, length_BWF = forms_BWFL.shape[-1], (forms_BWFL >= 0).sum(-1)
    recent_BL = jnp.concatenate([tokens_B[:, None], lists.recent(step, longest - 1, step.prompt_B)], axis=1)
    ended_BWF = jnp.zeros(forms_BWFL.shape[:-1], bool)
    for count in range(1, longest + 1):
        same_BWF = (forms_BWFL[..., :count] == recent_BL[:, None, None, count - 1 :: -1][..., :count]).all(-1)
        ended_BWF |= same_BWF & (length_BWF == count)
    return {"seen_BW": seen_BW | ended_BWF.any(-1)}


def _hashable(word: object) -> object:
    return tuple(word) if isinstance(word, list) else word
