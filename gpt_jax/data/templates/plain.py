"""What a model without special tokens reads: the texts alone, and the separator after each answer."""

from collections.abc import Sequence

from gpt_jax.data.templates import ASSISTANT, Message, Piece, Template
from gpt_jax.registry import register


@register("data.templates", "plain")
def plain() -> Template:
    """Contents one after another, as they are; answers end with the tokenizer's separator."""
    return Template(_pieces, dialogues=False)


def _pieces(messages: Sequence[Message], answer: bool) -> list[Piece]:
    pieces = []
    for message in messages:
        trained = message["role"] == ASSISTANT
        pieces.append(Piece(text=message["content"], trained=trained))
        if trained:
            pieces.append(Piece(special="", trained=True))
    return pieces
