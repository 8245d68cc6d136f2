"""Gemma (Gemma Team 2024)."""

from collections.abc import Sequence

from gpt_jax.data.templates import ASSISTANT, SYSTEM, Message, Piece, Template, require_turns, turn
from gpt_jax.errors import UserError
from gpt_jax.registry import register

BEGIN, START, END = "<bos>", "<start_of_turn>", "<end_of_turn>"
MODEL = "model"  # the assistant's role
JINJA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{% if (message['role'] == 'assistant') %}{% set role = 'model' %}{% else %}{% set role = message['role'] %}{% endif %}"
    "{{ '<start_of_turn>' + role + '\\n' + message['content'] | trim + '<end_of_turn>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{'<start_of_turn>model\\n'}}{% endif %}"
)


@register("data.templates", "gemma")
def gemma() -> Template:
    """Every message, without spaces around it, between <start_of_turn> and <end_of_turn>; nothing of a system."""
    return Template(_pieces, specials=(BEGIN, START, END), begin=BEGIN, end=END, jinja=JINJA)


def _pieces(messages: Sequence[Message], answer: bool) -> list[Piece]:
    if messages[0]["role"] == SYSTEM:
        raise UserError(
            "Gemma's template has no system message",
            fix="put it into the user's first message, or use another template",
        )
    require_turns(messages, answer)
    pieces = [Piece(special=BEGIN)]
    for message in messages:
        trained = message["role"] == ASSISTANT
        header = f"{MODEL if trained else message['role']}\n"
        pieces += [Piece(special=START), *turn(header, message, message["content"].strip())]
        pieces += [Piece(special=END, trained=trained), Piece(text="\n")]
    return pieces + [Piece(special=START), Piece(text=f"{MODEL}\n")] * answer
