"""Content filters: what prompts may not hold, and where an answer ends before it would.

A file of rules has one a line: a word or several, found as whole words in any case, or a regular expression between
slashes, ``/\\d{3}-\\d{4}/``. Lines that begin with # are comments.

An answer is looked at as it is written. What may become a match is held back, so that no half of one is ever sent.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from gpt_jax.errors import UserError

LONGEST = 0.1  # seconds that one regular expression takes of one look; one that takes longer acts, for safety
SYNTAX = "words, /a regular expression/, or # a comment"


class Look(NamedTuple):
    """What a rule says of a text.

    Attributes:
      hit: where what it forbids begins; None where there is nothing.
      clear: up to where no match can begin any more.
    """

    hit: int | None
    clear: int


class Rule(Protocol):
    """Something that is not to be said.

    Attributes:
      name: what the metrics call it.
    """

    @property
    def name(self) -> str: ...

    def look(self, text: str, start: int, final: bool) -> Look:
        """At a text in which matches may begin from ``start`` on; ``final``: nothing more follows."""
        ...


@dataclass(frozen=True)
class Pattern:
    """A rule of a file; see ``Rule``."""

    name: str
    expression: Any  # of the package regex, which finds what may become a match

    def look(self, text: str, start: int, final: bool) -> Look:
        try:
            found = self.expression.search(text, pos=start, partial=not final, timeout=LONGEST)
        except TimeoutError:
            return Look(start, start)
        if found is None:
            return Look(None, len(text))
        if found.partial or (found.end() == len(text) and not final):  # a further character could undo or extend it
            return Look(None, found.start())
        return Look(found.start(), found.start())


def read(path: Path) -> list[Rule]:
    """The rules of a file.

    Raises:
      UserError: it cannot be read, or a line is no rule.
    """
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read: {error}", where="--filter") from None
    rules: list[Rule] = [
        Pattern(f"line {number}", _compiled(line.strip(), f"{path}:{number}"))
        for number, line in enumerate(lines, start=1)
        if line.strip() and not line.startswith("#")
    ]
    if not rules:
        raise UserError(f"{path} holds no rule", where="--filter", allowed=SYNTAX)
    return rules


def _compiled(line: str, where: str) -> Any:
    import regex

    if len(line) > 1 and line.startswith("/") and line.endswith("/"):
        expression, flags = line[1:-1], 0
    else:
        words = r"\s+".join(map(re.escape, line.split()))
        expression, flags = rf"(?<!\w){words}(?!\w)", regex.IGNORECASE
    try:
        found = regex.compile(expression, flags)
    except regex.error as error:
        raise UserError(f"{line!r} is no regular expression: {error}", where=where, allowed=SYNTAX) from None
    if found.search(""):
        raise UserError(f"{line!r} matches where there is nothing", where=where, fix="have it ask for a character")
    return found


def forbidden(rules: Sequence[Rule], text: str) -> Rule | None:
    """The first rule that a whole text breaks."""
    return next((rule for rule in rules if rule.look(text, 0, True).hit is not None), None)


class FilteredText:
    """A text that is written piece by piece, up to the first match of a rule.

    Args:
      before: what the text continues; a match may begin in it.

    Attributes:
      broken: the rule that ended it; None where none has.
    """

    def __init__(self, rules: Sequence[Rule], before: str = ""):
        self._rules, self._text, self._sent = rules, before, len(before)
        self._clear = [rule.look(before, 0, False).clear for rule in rules]
        self.broken: Rule | None = None

    def write(self, piece: str, final: bool = False) -> str:
        """The text that is certain to hold no part of a match."""
        if self.broken is not None:
            return ""
        self._text += piece
        end = len(self._text)
        for number, rule in enumerate(self._rules):
            found = rule.look(self._text, self._clear[number], final)
            self._clear[number] = found.clear
            if found.clear < end or found.hit is not None:
                end = min(end, found.clear if found.hit is None else found.hit)
            if found.hit is not None and self.broken is None:
                self.broken = rule
        begin, self._sent = self._sent, max(self._sent, end)
        return self._text[begin : self._sent]
