"""Texts of a wanted length in which something stands at a wanted depth: filler sentences around statements."""

from collections.abc import Sequence

from gpt_jax.data.rows.generated import Draw
from gpt_jax.errors import UserError

SUBJECTS = ("The cat", "A bird", "The old man", "Her friend", "The dog", "A child", "The river", "The wind")
VERBS = ("passed", "saw", "left", "found", "watched", "followed", "forgot", "liked")
OBJECTS = ("the house", "a tree", "the road", "the market", "the hill", "a boat", "the bridge", "the fields")
WHERE = "config.data.source"


def filler(draw: Draw) -> str:
    """A sentence that says nothing of what is asked."""
    return f"{draw.one(SUBJECTS)} {draw.one(VERBS)} {draw.one(OBJECTS)}."


def surrounded(draw: Draw, statements: Sequence[tuple[float, str]], end: str, length: int, source: str) -> str:
    """Statements at their depths among filler, and what ends the text, of ``length`` characters at most.

    Args:
      statements: (depth, sentence), in the order in which they are to stand; depth 0 is the beginning and 1 just before
        ``end``.
      source: for messages.

    Raises:
      UserError: the statements alone are longer.
    """
    room = length - sum(len(sentence) + 1 for _, sentence in statements) - len(end)
    if room < 0:
        raise UserError(
            f"{source}: {length} characters do not hold the statements and the question, which have {length - room}",
            where=WHERE,
            fix="longer texts, or fewer statements",
        )
    fillers: list[str] = []
    while room > len(sentence := filler(draw)):
        fillers.append(sentence)
        room -= len(sentence) + 1
    places = [round(depth * len(fillers)) for depth, _ in statements]
    parts: list[str] = []
    for place in range(len(fillers) + 1):
        parts += [sentence for at, (_, sentence) in zip(places, statements, strict=True) if at == place]
        parts += fillers[place : place + 1]
    return " ".join([*parts, end])


def check(source: str, lengths: Sequence[int], depths: Sequence[float]) -> None:
    """
    Raises:
      UserError: there are none, or some that no text can have.
    """
    if not lengths or min(lengths) < 1 or not depths or min(depths) < 0 or max(depths) > 1:
        raise UserError(
            f"{source}(lengths={list(lengths)}, depths={list(depths)})",
            where=WHERE,
            allowed="one or more lengths from 1, in characters, and depths from 0 to 1",
        )
