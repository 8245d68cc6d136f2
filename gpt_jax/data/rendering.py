"""From examples to ids: the pieces of a template, with what the model learns to write."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gpt_jax import bars, registry
from gpt_jax.config import Config
from gpt_jax.data.corpus import BAR
from gpt_jax.data.templates import ASSISTANT, ROLES, USER, Message, Piece, Template
from gpt_jax.data.tokenizers import Tokenizer, writable
from gpt_jax.data.tokenizers.extended import extended
from gpt_jax.errors import UserError

SHAPE = '[{"role": "user", "content": "a text"}, …], with the roles ' + ", ".join(ROLES)
NONE = np.zeros(0, np.int32)
CHUNK = 8192  # rows encoded at once: bounds memory, and feeds every core


@dataclass(frozen=True)
class Encoded:
    """ids [n] int32 and trained [n] bool: which of them the model learns to write."""

    ids: np.ndarray
    trained: np.ndarray


@dataclass(frozen=True)
class Writer:
    """A template with a tokenizer, which has its special tokens."""

    template: Template
    tokenizer: Tokenizer

    def write(
        self,
        dialogues: Sequence[Sequence[Message]],
        answer: bool = False,
        place: Callable[[int], str] = "dialogue {}".format,
    ) -> list[Encoded]:
        """The ids of dialogues.

        Args:
          answer: whether an answer of the assistant is to follow.
          place: of messages, where dialogue i comes from.

        Raises:
          UserError: something is no dialogue, or none that the template can write, or the tokenizer lacks a special token.
        """
        return self.encode([self.pieces(messages, answer, place(i)) for i, messages in enumerate(dialogues)])

    def encode(self, rows: Sequence[Sequence[Piece]]) -> list[Encoded]:
        """The ids of the pieces of rows."""
        found: list[Encoded] = []
        with bars.bar(desc="writing examples", total=len(rows), leave=False, bar_format=BAR) as bar:
            for begin in range(0, len(rows), CHUNK):
                chunk = rows[begin : begin + CHUNK]
                heads = iter(self.tokenizer.encode_many([text for row in chunk for text in _heads(row)]))
                found += [self._encoded(row, heads) for row in chunk]
                bar.update(len(chunk))
        return found

    def answered(self, prompt: str | Sequence[Message], answer: str | Sequence[Message], place: str) -> list[Piece]:
        """The pieces of a prompt and an answer to it, of which the answer alone is learned, whatever the prompt is.

        Raises:
          UserError: see ``write``.
        """
        pieces = self.pieces(dialogue(prompt, answer), False, place)
        before = 0 if isinstance(prompt, str) or not prompt else len(self.pieces(dialogue(prompt), False, place))
        return [replace(piece, trained=False) if i < before else piece for i, piece in enumerate(pieces)]

    def whole(self, text: str, place: str) -> list[Piece]:
        """The pieces of a text that is learned whole, and to end after it.

        Raises:
          UserError: it is none.
        """
        if not isinstance(text, str):
            raise UserError(f"the text is {text!r:.60}", where=place, allowed="a text")
        begin = [Piece(special=self.template.begin)] if self.template.begin else []
        return [*begin, Piece(text=writable(text), trained=True), Piece(special="", trained=True)]

    def spelt(self, messages: Sequence[Message], answer: bool, place: str) -> str:
        """What ``write`` writes, with special tokens as they are written."""
        pieces = self.pieces(messages, answer, place)
        return "".join(
            self.tokenizer.decode([self._special(piece)]) if piece.text is None else piece.text for piece in pieces
        )

    def pieces(self, messages: Any, answer: bool, place: str) -> list[Piece]:
        """The pieces of a dialogue.

        Raises:
          UserError: see ``write``.
        """
        found = _checked(messages, place)
        try:
            return self.template.pieces(found, answer)
        except UserError as error:
            raise UserError(error.what, where=place, allowed=error.allowed, fix=error.fix) from None

    def _encoded(self, row: Sequence[Piece], heads: Iterator[np.ndarray]) -> Encoded:
        parts = [np.array(() if self.template.begin else self.tokenizer.opening, np.int32)]
        before = NONE  # the ids of the texts since the last special token
        for piece in row:
            if piece.text is None:
                before, ids = NONE, np.array([self._special(piece)], np.int32)
            else:
                head, known = next(heads), len(before)
                # Texts that follow each other are read as one, unless that would change the ids of the first.
                goes_on = np.array_equal(head[:known], before)
                ids = head[known:] if goes_on else self.tokenizer.encode(piece.text)
                before = np.concatenate([before, ids])
            parts.append(ids)
        trained = [False, *(piece.trained for piece in row)]
        return Encoded(np.concatenate(parts), np.repeat(trained, [len(part) for part in parts]))

    def _special(self, piece: Piece) -> int:
        found = self.tokenizer.special(piece.special) if piece.special else self.tokenizer.separator
        if found is None and piece.special:
            raise UserError(
                f"the tokenizer has no token {piece.special}",
                where="config.data.template",
                fix="train or import with this template, which adds its tokens",
            )
        if found is None:
            raise UserError(
                "the tokenizer has no token that ends an answer",
                where="config.data.tokenizer",
                fix="name one of its tokens, as in file(path='tokenizer.json', separator='</s>')",
            )
        return found


def template_of(config: Config) -> Template:
    """What ``data.template`` names."""
    return registry.build("data.templates", config.data.template, where="config.data.template")


def with_tokens(tokenizer: Tokenizer, template: Template) -> Tokenizer:
    """The tokenizer with the special tokens that a template writes."""
    return extended(tokenizer, template.specials, template.end)


def dialogue(prompt: str | Sequence[Message], *answers: str | Sequence[Message]) -> list[Message]:
    """The messages of a prompt (a text is the user's) and the answers to it (a text is the assistant's)."""
    messages: list[Any] = []
    for role, part in ((USER, prompt), *((ASSISTANT, answer) for answer in answers)):
        messages += part if isinstance(part, list | tuple) else [{"role": role, "content": part}]
    return messages


def _heads(row: Sequence[Piece]) -> Iterator[str]:
    """Of each text, what there is from the last special token up to its end."""
    head = ""
    for piece in row:
        head = "" if piece.text is None else head + piece.text
        if piece.text is not None:
            yield head


def _checked(messages: Any, place: str) -> list[Message]:
    """Messages with their roles and contents alone.

    Raises:
      UserError: they are none.
    """

    def refusal(what: str) -> UserError:
        return UserError(what, where=place, allowed=SHAPE)

    if not isinstance(messages, list | tuple):
        raise refusal(f"{messages!r:.60} is no list of messages")
    if not messages:
        raise refusal("there are no messages")
    for number, message in enumerate(messages, start=1):
        if not isinstance(message, Mapping):
            raise refusal(f"message {number} is {message!r:.60}")
        for field in ("role", "content"):
            if field not in message:
                raise refusal(f"message {number} has no {field}")
        if message["role"] not in ROLES:
            raise refusal(f"message {number} has the role {message['role']!r:.60}")
        if not isinstance(message["content"], str):
            raise refusal(f"the content of message {number} is no text: {message['content']!r:.60}")
    return [{"role": message["role"], "content": writable(message["content"])} for message in messages]
