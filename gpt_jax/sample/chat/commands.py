"""What lines that begin with a slash do: an entry of ``COMMANDS`` each."""

import sys
from collections.abc import Callable
from dataclasses import dataclass

from gpt_jax.data.templates import ASSISTANT
from gpt_jax.errors import Failure, UserError
from gpt_jax.sample.chat import files
from gpt_jax.sample.chat.chat import Chat
from gpt_jax.sample.chat.printing import print_answer
from gpt_jax.sample.outputs.requests import OF_A_LINE

USUAL = ("seed", "temperature", "top_p", "max_new_tokens")  # of the knobs, those that the help shows a line each


@dataclass(frozen=True)
class Command:
    """A command.

    Args:
      takes: what follows its name, as the help shows it; "" = nothing may.
      help: what it does.
      do: it, with what follows its name; returns whether the chat goes on.
    """

    takes: str
    help: str
    do: Callable[[Chat, str], bool]


def run(chat: Chat, line: str) -> bool:
    """Does what a line after its slash asks for; whether the chat goes on.

    Raises:
      UserError: there is no such command, or it cannot be done.
    """
    name, _, rest = line.strip().partition(" ")
    if name not in COMMANDS:
        raise UserError(
            f"there is no command /{name}",
            allowed=", ".join(f"/{known}" for known in COMMANDS if known not in OF_A_LINE or known in USUAL),
            fix=f"a message that begins with a slash is written with two: //{name}",
        )
    command, rest = COMMANDS[name], rest.strip()
    if rest and not command.takes:
        raise UserError(f"/{name} takes nothing after it", where=f"/{line.strip()}")
    return command.do(chat, rest)


def _required(rest: str, example: str) -> str:
    if not rest:
        raise UserError("the name of a file is missing", fix=f"for example {example}")
    return rest


def _reset(chat: Chat, rest: str) -> bool:
    chat.begin()
    return True


def _save(chat: Chat, rest: str) -> bool:
    print(f"saved {files.save(chat, _required(rest, '/save talk.json'))}", file=sys.stderr, flush=True)
    return True


def _load(chat: Chat, rest: str) -> bool:
    files.load(chat, _required(rest, "/load talk.json"))
    print(f"{len(chat.messages)} messages", file=sys.stderr, flush=True)
    return True


def _system(chat: Chat, rest: str) -> bool:
    chat.say_first(rest)
    return True


def _regenerate(chat: Chat, rest: str) -> bool:
    answered = bool(chat.messages) and chat.messages[-1]["role"] == ASSISTANT
    messages = chat.messages[:-1] if answered else chat.messages
    if not messages or messages[-1]["role"] == ASSISTANT:
        raise UserError("there is no message to answer")
    before, sample = chat.messages, chat.sample
    chat.turn("seed", str(chat.sample.seed + 1))
    chat.messages = messages
    print(f"seed = {chat.sample.seed}", file=sys.stderr, flush=True)
    try:
        print_answer(chat)
    except Failure:  # the answer that there was is as good as before
        chat.messages, chat.sample = before, sample
        raise
    return True


def _undo(chat: Chat, rest: str) -> bool:
    print(f"taken back: {chat.take_back()}", file=sys.stderr, flush=True)
    return True


def _history(chat: Chat, rest: str) -> bool:
    for message in chat.messages:
        print(f"{message['role']}: {message['content']}")
    sys.stdout.flush()
    return True


def _help(chat: Chat, rest: str) -> bool:
    shown = {name: command for name, command in COMMANDS.items() if name not in OF_A_LINE or name in USUAL}
    for name, command in shown.items():
        print(f"{f'/{name} {command.takes}':<24} {command.help}")
    print(f"{'//TEXT':<24} says /TEXT")
    print(f"other knobs, in the same way: {', '.join(name for name in COMMANDS if name not in shown)}", flush=True)
    return True


def _knob(name: str) -> Command:
    def do(chat: Chat, rest: str) -> bool:
        if rest:
            chat.turn(name, rest)
        else:
            print(f"{name} = {getattr(chat.sample, name)!r}", flush=True)
        return True

    return Command("VALUE", "sets this knob of sampling; without a value, shows it", do)


COMMANDS: dict[str, Command] = {
    "reset": Command("", "begins anew: no messages but the system's, and the knobs as they were at first", _reset),
    "save": Command("FILE", "writes messages and knobs to a file", _save),
    "load": Command("FILE", "goes on with what is in a file", _load),
    "system": Command("TEXT", "sets the system's message; without a text, removes it", _system),
    "regenerate": Command("", "another answer to the last message, with the next seed", _regenerate),
    "undo": Command("", "takes back the last message and its answer", _undo),
    "history": Command("", "shows the messages", _history),
    **{name: _knob(name) for name in (*USUAL, *OF_A_LINE) if name != "num_return_sequences"},
    "help": Command("", "this", _help),
    "quit": Command("", "ends, as Ctrl-D does", lambda chat, rest: False),
}
