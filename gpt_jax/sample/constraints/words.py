"""Words as sequences of token ids, and where a row's text has just come to one of them.

A word is a text, a token id, or several ids. A text stands for two sequences of tokens: its own, and that of a space and
it, which most tokenizers write otherwise. The second is left out where it only puts tokens before the first, or where the
tokenizer cannot write a space.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gpt_jax.errors import UserError
from gpt_jax.sample.processors import NONE, Step, Vocabulary

Ids = tuple[int, ...]
BANS = ("bad_words", "suppress")


def forms(given: Vocabulary, word: Any, where: str) -> list[Ids]:
    """The token sequences that a word stands for.

    Raises:
      UserError: it is none of a text, an id and several ids, or not of this vocabulary.
    """
    if not isinstance(word, str | int | tuple | list):
        raise UserError(f"{word!r} is no word", where=where, allowed="a text, a token id, or several ids")
    found = tuple(given.ids(word, where))
    if not isinstance(word, str):
        return [found]
    try:
        spaced = tuple(given.ids(f" {word}", where))
    except UserError:
        return [found]
    return [found] if spaced[-len(found) :] == found else [found, spaced]


def all_forms(given: Vocabulary, words: Sequence[Any], where: str) -> list[Ids]:
    """Those of several words, each once.

    Raises:
      UserError: there is no word, or one is not of this vocabulary.
    """
    if not words:
        raise UserError("there is no word", where=where, allowed="one or more words")
    return list(dict.fromkeys(form for word in words for form in forms(given, word, where)))


def single(given: Vocabulary, words: Sequence[Any], where: str) -> list[int]:
    """The tokens of words that are one token each.

    Raises:
      UserError: one is several tokens.
    """
    found = all_forms(given, words, where)
    for form in found:
        if len(form) > 1:
            raise UserError(
                f"{_shown(given, form)} is {len(form)} tokens", where=where, allowed="words of one token",
                fix="bad_words takes words of several tokens",
            )  # fmt: skip
    return [form[0] for form in found]


def arrays(sequences: Sequence[Ids]) -> dict[str, np.ndarray]:
    """Sequences of any lengths as ``last_BW`` and ``before_BWL``: the ids before the last, the nearest first."""
    longest = max(map(len, sequences), default=1) - 1
    before_WL = np.full((len(sequences), longest), NONE, np.int32)
    for row, ids in enumerate(sequences):
        before_WL[row, : len(ids) - 1] = ids[-2::-1]
    return {"last_BW": np.array([ids[-1] for ids in sequences], np.int32), "before_BWL": before_WL}


def recent(step: Step, count: int, since_B: jax.Array | int = 0) -> jax.Array:
    """The last ``count`` tokens from place ``since_B`` on, the newest first, [B, L]; ``NONE`` where there are fewer."""
    places_BL = step.length_B[:, None] - 1 - jnp.arange(count)
    tokens_BL = jnp.take_along_axis(step.tokens_BS, jnp.maximum(places_BL, 0), axis=1)
    return jnp.where(places_BL >= jnp.reshape(since_B, (-1, 1)), tokens_BL, NONE)


def due(step: Step, before_BWL: jax.Array) -> jax.Array:
    """Which sequences the row's next token may complete, as the text ends with their other ids, bool [B, W]."""
    recent_BL = recent(step, before_BWL.shape[-1])
    return ((before_BWL == NONE) | (before_BWL == recent_BL[:, None])).all(-1)


def check(given: Vocabulary, asked: Iterable[tuple[str, dict[str, Any]]]) -> None:
    """Refuses lists of words that contradict each other.

    Args:
      asked: of each processor its name and arguments; what takes no lists of words is passed over.

    Raises:
      UserError: a forced word holds a banned one, or a token that is not allowed; or no allowed token is left.
    """
    lists: dict[str, list] = {}
    for name, arguments in asked:
        if name in (*BANS, "forced_words", "allowed_words"):
            lists.setdefault(name, []).extend(arguments["words"])
    banned = {form: name for name in BANS for word in lists.get(name, ()) for form in forms(given, word, name)}
    banned = {
        form: name for form, name in banned.items() if name == "suppress" or form not in {(i,) for i in given.stop_ids}
    }
    allowed = {
        i for word in lists.get("allowed_words", ()) for form in forms(given, word, "allowed_words") for i in form
    }
    for word in lists.get("forced_words", ()):
        ways = forms(given, word, "forced_words")
        bans = [[ban for ban in banned if _holds(way, ban)] for way in ways]
        if all(bans):
            ban = bans[0][0]
            _refuse(given, f"{word!r} of forced_words", f"holds {_shown(given, ban)} of {banned[ban]}")
        if allowed and all(not allowed.issuperset(way) for way in ways):
            outside = next(i for i in ways[0] if i not in allowed)
            _refuse(
                given, f"{word!r} of forced_words", f"needs {_shown(given, (outside,))}, which is not in allowed_words"
            )
    left = [i for i in sorted(allowed) if (i,) not in banned]
    if allowed and not left:
        first = min(allowed)
        _refuse(given, "no token of allowed_words", f"is left: {_shown(given, (first,))} is in {banned[first,]} too")


def _refuse(given: Vocabulary, what: str, why: str) -> None:
    raise UserError(f"the lists of words contradict each other: {what} {why}", where="config.sample")


def _holds(ids: Ids, part: Ids) -> bool:
    return any(ids[i : i + len(part)] == part for i in range(len(ids) - len(part) + 1))


def _shown(given: Vocabulary, ids: Sequence[int]) -> str:
    return repr(given.tokenizer.decode(list(ids))) if given.tokenizer is not None else f"the ids {list(ids)}"
