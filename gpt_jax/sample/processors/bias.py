"""Numbers that are added to the scores of tokens and of sequences."""

import jax
import jax.numpy as jnp
import numpy as np

from gpt_jax import limits
from gpt_jax.errors import UserError
from gpt_jax.registry import register
from gpt_jax.sample.constraints import words as lists
from gpt_jax.sample.processors import Processor, Vocabulary


@register("sample.processors", "bias", examples=("bias(words=((5, 2.5), ((7, 3), -1.0)))",))
def bias(given: Vocabulary, *, words: tuple | list) -> Processor:
    """Adds numbers to scores: a token's always, a sequence's to its last token where the text ends with the others; those of
    sequences that end with the same token add up (Hugging Face's sequence_bias).

    Args:
      words: ((word, number), …). A sequence that a text stands for besides its own has the number too, unless it is given
        one of its own.

    Raises:
      UserError: an entry is no such pair, or a word has two numbers.
    """
    exact: dict[lists.Ids, float] = {}
    further: dict[lists.Ids, float] = {}
    for entry in words:
        if not isinstance(entry, tuple | list) or len(entry) != 2 or not _is_number(entry[1]):
            raise UserError(f"{entry!r} is no word with a number", where="bias", allowed="((word, finite number), …)")
        first, *others = lists.forms(given, entry[0], "bias")
        if first in exact and exact[first] != entry[1]:
            raise UserError(f"{entry[0]!r} has two numbers: {exact[first]} and {entry[1]}", where="bias")
        exact[first] = entry[1]
        further.update((form, entry[1]) for form in others)
    found = further | exact
    return Processor(change, {**lists.arrays(list(found)), "bias_BW": np.array([*found.values()], np.float32)})


def change(logits_BV, step, last_BW, before_BWL, bias_BW):
    vocab = logits_BV.shape[1]
    at_BW = jnp.where(lists.due(step, before_BWL) & (last_BW >= 0), last_BW, vocab)
    return jax.vmap(lambda logits_V, ids_W, bias_W: logits_V + jnp.zeros(vocab).at[ids_W].add(bias_W, mode="drop"))(
        logits_BV, at_BW, bias_BW
    )


def _is_number(value: object) -> bool:
    return limits.has_type(value, limits.Signed) and not limits.exceeded(value, limits.Signed)
