"""Zephyr (Tunstall et al. 2023)."""

from collections.abc import Sequence

from gpt_jax.data.templates import ASSISTANT, Message, Piece, Template, turn
from gpt_jax.registry import register

JINJA = """{% for message in messages %}
{% if message['role'] == 'user' %}
{{ '<|user|>\\n' + message['content'] + eos_token }}
{% elif message['role'] == 'system' %}
{{ '<|system|>\\n' + message['content'] + eos_token }}
{% elif message['role'] == 'assistant' %}
{{ '<|assistant|>\\n'  + message['content'] + eos_token }}
{% endif %}
{% if loop.last and add_generation_prompt %}
{{ '<|assistant|>' }}
{% endif %}
{% endfor %}"""


@register("data.templates", "zephyr")
def zephyr() -> Template:
    """Every message after a line with its role, which is plain text, up to the tokenizer's separator."""
    return Template(_pieces, jinja=JINJA)


def _pieces(messages: Sequence[Message], answer: bool) -> list[Piece]:
    pieces = []
    for message in messages:
        role = message["role"]
        pieces += turn(f"<|{role}|>\n", message, message["content"])
        pieces += [Piece(special="", trained=role == ASSISTANT), Piece(text="\n")]
    return pieces + [Piece(text=f"<|{ASSISTANT}|>\n")] * answer
