"""Llama 3 (Grattafiori et al. 2024)."""

from collections.abc import Sequence

from gpt_jax.data.templates import ASSISTANT, Message, Piece, Template, turn
from gpt_jax.registry import register

BEGIN, END = "<|begin_of_text|>", "<|eot_id|>"
ROLE, CONTENT = "<|start_header_id|>", "<|end_header_id|>"
JINJA = (
    "{% set loop_messages = messages %}{% for message in loop_messages %}"
    "{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'"
    "+ message['content'] | trim + '<|eot_id|>' %}"
    "{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"
)


@register("data.templates", "llama3")
def llama3() -> Template:
    """Every message after a header with its role, without spaces around it, up to <|eot_id|>."""
    return Template(_pieces, specials=(BEGIN, ROLE, CONTENT, END), begin=BEGIN, end=END, jinja=JINJA)


def _pieces(messages: Sequence[Message], answer: bool) -> list[Piece]:
    pieces = [Piece(special=BEGIN)]
    for message in messages:
        role = message["role"]
        pieces += [*_header(role), *turn("\n\n", message, message["content"].strip())]
        pieces.append(Piece(special=END, trained=role == ASSISTANT))
    return pieces + [*_header(ASSISTANT), Piece(text="\n\n")] * answer


def _header(role: str) -> list[Piece]:
    return [Piece(special=ROLE), Piece(text=role), Piece(special=CONTENT)]
