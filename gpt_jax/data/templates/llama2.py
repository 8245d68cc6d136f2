"""Llama 2 (Touvron et al. 2023), and Mistral's first models."""

from collections.abc import Sequence

from gpt_jax.data.templates import ASSISTANT, SYSTEM, Message, Piece, Template, require_turns
from gpt_jax.registry import register

BEGIN = "<s>"
JINJA = (
    "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}"
    "{% set system_message = messages[0]['content'] %}{% else %}{% set loop_messages = messages %}"
    "{% set system_message = false %}{% endif %}{% for message in loop_messages %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{% if loop.index0 == 0 and system_message != false %}"
    "{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}"
    "{% else %}{% set content = message['content'] %}{% endif %}"
    "{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}"
    "{% elif message['role'] == 'assistant' %}{{ ' ' + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
)


@register("data.templates", "llama2")
def llama2() -> Template:
    """The user's messages between [INST] and [/INST], the first with the system's, each after a <s> of its own; answers
    end with the tokenizer's separator."""
    return Template(_pieces, specials=(BEGIN,), begin=BEGIN, jinja=JINJA)


def _pieces(messages: Sequence[Message], answer: bool) -> list[Piece]:
    system = [message["content"] for message in messages[:1] if message["role"] == SYSTEM]
    turns = messages[len(system) :]
    require_turns(turns, answer)
    pieces = []
    for number, message in enumerate(turns):
        if message["role"] == ASSISTANT:
            pieces += [Piece(text=f" {message['content'].strip()} ", trained=True), Piece(special="", trained=True)]
        else:
            before = "".join(f"<<SYS>>\n{text}\n<</SYS>>\n\n" for text in system) if number == 0 else ""
            pieces += [Piece(special=BEGIN), Piece(text=f"[INST] {(before + message['content']).strip()} [/INST]")]
    return pieces
