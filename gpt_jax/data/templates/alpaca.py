"""Alpaca (Taori et al. 2023): an instruction, perhaps with an input, and one response."""

from collections.abc import Sequence

from gpt_jax.data.templates import SYSTEM, Message, Piece, Template, require_turns
from gpt_jax.errors import UserError
from gpt_jax.registry import register

INSTRUCTION = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{user}\n\n### Response:"
)
WITH_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further context. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{system}\n\n### Input:\n{user}\n\n### Response:"
)


@register("data.templates", "alpaca")
def alpaca() -> Template:
    """The user's message is the instruction; where there is a system's, that is, and the user's is its input. The answer
    ends with the tokenizer's separator."""
    return Template(_pieces)


def _pieces(messages: Sequence[Message], answer: bool) -> list[Piece]:
    system = [message["content"] for message in messages[:1] if message["role"] == SYSTEM]
    turns = messages[len(system) :]
    require_turns(turns, answer)
    if len(turns) > 2:
        raise UserError(
            "Alpaca's template has one instruction and one answer",
            fix="use another template for dialogues",
        )
    pieces = []
    for message in turns[:1]:
        text = WITH_INPUT if system else INSTRUCTION
        pieces.append(Piece(text=text.format(user=message["content"], system="".join(system))))
    for message in turns[1:]:
        pieces += [Piece(text=message["content"], trained=True), Piece(special="", trained=True)]
    return pieces
