"""How many of a completion's words are on a list: a reward for a style."""

import re
from collections.abc import Sequence

from gpt_jax.data.sources.preferences import KIND
from gpt_jax.errors import UserError
from gpt_jax.registry import register
from gpt_jax.storage import local_path
from gpt_jax.train.rewards import WHERE, Completion, Reward

WORD = re.compile(r"\w+(?:['’-]\w+)*")


@register("train.rewards", "words", examples=(f"words(words={KIND})",))
def words(*, words: tuple | list = (), path: str = "") -> Reward:
    """The share of the completion's words that are on the list, in capitals or not; 0 without words.

    Args:
      words: the list.
      path: of a file of UTF-8 text instead, with words between blanks and line ends.

    Raises:
      UserError: there is no list, or two, or no such file; or something on the list is no single word.
    """
    if bool(words) == bool(path):
        raise UserError(
            "words needs a list of words, or a file of them", where=WHERE, allowed="words=('good', 'fine') or path='…'"
        )
    listed = frozenset(_word(given) for given in (words or _read(path)))

    def reward(completions: Sequence[Completion]) -> list[float]:
        return [_share(completion.text, listed) for completion in completions]

    return reward


def _share(text: str, listed: frozenset[str]) -> float:
    found = WORD.findall(text.casefold())
    return sum(word in listed for word in found) / len(found) if found else 0.0


def _read(path: str) -> list[str]:
    file = local_path(path, WHERE)
    try:
        found = file.read_text("utf-8-sig").split()
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}", where=WHERE, allowed="a file of UTF-8 text") from None
    if not found:
        raise UserError(f"{path} has no words", where=WHERE)
    return found


def _word(given: object) -> str:
    if not isinstance(given, str) or not WORD.fullmatch(given):
        raise UserError(f"{given!r:.80} is no single word", where=WHERE, allowed="letters and digits, as in 'good'")
    return given.casefold()
