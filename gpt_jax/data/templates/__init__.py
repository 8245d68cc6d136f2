"""How a dialogue is written for a model: one file per template, each a function ``name() -> Template``.

A template gives pieces, texts and special tokens, and says of each whether the model learns to write it. Ids are made from
the pieces, never from the joined text, so that no text of a user can make a special token, and so that a prompt has the
same ids whether an answer follows or not.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from gpt_jax.errors import UserError

SYSTEM, USER, ASSISTANT = "system", "user", "assistant"
ROLES = (SYSTEM, USER, ASSISTANT)
Message = Mapping[str, str]  # {"role": system, user or assistant, "content": a text}


@dataclass(frozen=True)
class Piece:
    """A text, or the name of a special token, of which the model learns to write the ``trained`` ones.

    A special token without a name is the tokenizer's separator.
    """

    text: str | None = None
    special: str | None = None
    trained: bool = False


@dataclass(frozen=True)
class Template:
    """A way to write dialogues.

    Attributes:
      pieces: (messages, whether an answer is to follow) -> their pieces. Those of the first k messages begin those of
        all, and what comes before an answer is the same whether it is there or to follow. Raises ``UserError`` for
        messages that it has no place for.
      specials: names of the special tokens that it writes, besides the separator.
      begin: the name of the special token that its pieces begin with, where it is the one that stands before every text;
        empty = the tokenizer's ``opening`` is put before them.
      end: the name of the special token that ends an answer; empty = the separator.
      jinja: the template as it was published for ``transformers``, which exports carry; empty where there is none.
      dialogues: whether what it writes says who speaks, so that a model can take its turn.
    """

    pieces: Callable[[Sequence[Message], bool], list[Piece]]
    specials: tuple[str, ...] = ()
    begin: str = ""
    end: str = ""
    jinja: str = ""
    dialogues: bool = True


def turn(header: str, message: Message, content: str) -> list[Piece]:
    """A header and the content of a message, of which the model learns to write the assistant's."""
    if message["role"] == ASSISTANT:
        return [Piece(text=header), Piece(text=content, trained=True)]
    return [Piece(text=header + content)]


def require_turns(messages: Sequence[Message], answer: bool) -> None:
    """
    Raises:
      UserError: the user and the assistant do not take turns, the user first, or an answer is to follow none of the user's.
    """
    for number, message in enumerate(messages):
        expected = (USER, ASSISTANT)[number % 2]
        if message["role"] != expected:
            raise UserError(
                f"the {message['role']} speaks where the {expected}'s turn is",
                allowed=f"{USER} and {ASSISTANT} in turns, the {USER} first",
            )
    if answer and len(messages) % 2 == 0:
        raise UserError(
            f"there is no message of the {USER} to answer",
            allowed=f"messages of which the {USER}'s is the last",
        )
