"""Problems, made of rows of examples, and what a model said to them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gpt_jax.data.examples import Row
from gpt_jax.data.templates import ASSISTANT, Message
from gpt_jax.errors import UserError

SHAPES = (
    "{prompt, completion}, {prompt, answer}, {prompt, answers}, {messages}, {prompt, options, class}, "
    "{prompt, chosen, rejected}, or {text, class} with names of the classes"
)


@dataclass(frozen=True)
class Problem:
    """What a model is asked.

    Attributes:
      row: that it is made of, with all of its fields.
      prompt: a text, or messages.
      answers: texts, each of which is right; of options the right one.
      options: that there are to choose from; () where an answer is written.
      group: the part of the problems whose figures are also reported apart, such as "distance=2"; empty = none.
    """

    row: Row = field(repr=False)
    prompt: str | Sequence[Message]
    answers: tuple[str, ...]
    options: tuple[str, ...] = ()
    group: str = ""

    @property
    def right(self) -> int:
        """The number of the right option."""
        return self.options.index(self.answers[0])


@dataclass(frozen=True)
class Answered:
    """What a model said.

    Attributes:
      texts: one or several that it wrote; of options the one that it chose.
      correct: whether each is right, or the share of it that is.
      votes: what each says, without how it says it: texts that agree are equal.
      probabilities: of the options, which add up to one; () where the answer was written.
    """

    problem: Problem
    texts: tuple[str, ...]
    correct: tuple[float, ...]
    votes: tuple[str, ...]
    probabilities: tuple[float, ...] = ()


def problem_of(row: Row, place: str, names: Sequence[str] = ()) -> Problem:
    """The problem of a row in one of the shapes of ``data.examples``.

    Args:
      place: where the row comes from, for errors.
      names: of classes, in the order of their numbers, for rows with a class and no options.

    Raises:
      UserError: the row asks nothing, or has no answer.
    """
    for shape, make in MAKERS.items():
        if all(name in row for name in shape) and (found := make(row, place, names)) is not None:
            return found
    raise UserError(f"{place}: {', '.join(map(str, row))} are no question with an answer", where=place, allowed=SHAPES)


def _choice(row: Row, place: str, names: Sequence[str]) -> Problem:
    return _chosen(row, row["prompt"], tuple(row["options"]), place)


def _preference(row: Row, place: str, names: Sequence[str]) -> Problem | None:
    if not isinstance(row["chosen"], str) or not isinstance(row["rejected"], str):
        return None
    return Problem(row, row["prompt"], (row["chosen"],), (row["chosen"], row["rejected"]))


def _class(row: Row, place: str, names: Sequence[str]) -> Problem | None:
    return _chosen(row, row["text"], tuple(names), place) if names else None


def _chosen(row: Row, prompt: Any, options: tuple[str, ...], place: str) -> Problem:
    given = row["class"]
    right = options[given] if isinstance(given, int) and 0 <= given < len(options) else given
    if len(set(options)) < 2 or len(set(options)) < len(options) or right not in options:
        raise UserError(
            f"{place}: the class {given!r:.80} of {', '.join(options)}",
            where=place,
            allowed="two or more different options, and the number or the text of one of them",
        )
    return Problem(row, prompt, (right,), options)


def _dialogue(row: Row, place: str, names: Sequence[str]) -> Problem | None:
    *before, last = row["messages"]
    return Problem(row, before, (last["content"],)) if before and last["role"] == ASSISTANT else None


def _written(field: str):
    def make(row: Row, place: str, names: Sequence[str]) -> Problem | None:
        given = row[field]
        answers = (given,) if isinstance(given, str) else tuple(given) if isinstance(given, list | tuple) else ()
        good = answers and all(isinstance(answer, str) for answer in answers)
        return Problem(row, row["prompt"], tuple(map(str, answers))) if good else None

    return make


# Fields -> what is made of a row that has all of them; the first that fits.
MAKERS: Mapping[tuple[str, ...], Any] = {
    ("prompt", "options", "class"): _choice,
    ("prompt", "chosen", "rejected"): _preference,
    ("text", "class"): _class,
    ("messages",): _dialogue,
    ("prompt", "answers"): _written("answers"),
    ("prompt", "answer"): _written("answer"),
    ("prompt", "completion"): _written("completion"),
}
