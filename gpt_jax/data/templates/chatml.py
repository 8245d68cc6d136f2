"""ChatML (OpenAI 2023), which Qwen and many others write."""

from collections.abc import Sequence

from gpt_jax.data.templates import ASSISTANT, Message, Piece, Template, turn
from gpt_jax.registry import register

START, END = "<|im_start|>", "<|im_end|>"
JINJA = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


@register("data.templates", "chatml")
def chatml() -> Template:
    """Every message between <|im_start|>, with the role on a line of its own, and <|im_end|>."""
    return Template(_pieces, specials=(START, END), end=END, jinja=JINJA)


def _pieces(messages: Sequence[Message], answer: bool) -> list[Piece]:
    pieces = []
    for message in messages:
        role = message["role"]
        pieces += [Piece(special=START), *turn(f"{role}\n", message, message["content"])]
        pieces += [Piece(special=END, trained=role == ASSISTANT), Piece(text="\n")]
    return pieces + [Piece(special=START), Piece(text=f"{ASSISTANT}\n")] * answer
