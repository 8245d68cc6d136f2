"""An answer on standard output as it is written; Ctrl-C ends it."""

import signal
import sys
from types import FrameType

from gpt_jax.sample.chat.chat import Chat


class Stop:
    """Within it, a first Ctrl-C asks for the end of an answer, which comes between two of its pieces: a compilation that is
    interrupted can crash the process when it ends. A second one is Python's ``KeyboardInterrupt``.

    Attributes:
      asked: whether Ctrl-C was pressed.
    """

    def __init__(self) -> None:
        self.asked = False

    def __enter__(self) -> "Stop":
        self._before = signal.getsignal(signal.SIGINT)
        if self._before is signal.default_int_handler:  # not where signals are ignored, or another's
            signal.signal(signal.SIGINT, self._ask)
        return self

    def __exit__(self, *error: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        signal.signal(signal.SIGINT, signal.default_int_handler)


def print_answer(chat: Chat) -> None:
    """Prints the answer to the last message, and on standard error which turns it does not know.

    Raises:
      UserError: see ``Chat.answer``.
    """
    before = chat.left_out
    with Stop() as stop:
        for piece in chat.answer():
            if chat.left_out > before:
                _note_left_out(chat)
                before = chat.left_out
            print(piece, end="", flush=True)
            if stop.asked:
                break
    print(flush=True)
    if stop.asked:
        print("note: stopped; /regenerate writes another answer", file=sys.stderr, flush=True)


def _note_left_out(chat: Chat) -> None:
    turns = "the first turn does" if chat.left_out == 1 else f"the first {chat.left_out} turns do"
    note = f"note: {turns} not fit into the context any more; what follows is written without"
    print(note, file=sys.stderr, flush=True)
