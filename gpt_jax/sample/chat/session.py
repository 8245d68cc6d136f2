"""The loop of a chat at the terminal: each line is a message or a command."""

import sys

from gpt_jax.sample.chat.chat import Chat
from gpt_jax.sample.chat.commands import run
from gpt_jax.sample.chat.printing import print_answer
from gpt_jax.sample.outputs.typed import each_line

GREETING = "each line is a message; /help shows what else there is; Ctrl-C ends an answer, Ctrl-D the chat"


def talk(chat: Chat) -> None:
    """Reads lines until they end or /quit is one; what is wrong with one is said, and the next one read."""
    if not chat.remembers:
        note = "note: the template of this run has one question and one answer; each message is answered by itself"
        print(note, file=sys.stderr, flush=True)
    each_line(lambda line: _do(chat, line), GREETING)


def _do(chat: Chat, line: str) -> bool:
    if line.startswith("/") and not line.startswith("//"):
        return run(chat, line[1:])
    if line.strip():
        chat.say(line.removeprefix("/"))
        print_answer(chat)
    return True
