"""Failures a user can act on, each with the exit code the command ends with (README of the codes: docs/training.md)."""

import difflib
import re
from collections.abc import Iterable

DONE = 0
USER_ERROR = 2
INTERNAL = 70
STORAGE = 74
RESUMABLE = 75
NON_FINITE = 76
INTERRUPTED, PIPE_CLOSED = 130, 141  # as shells have them: 128 and the signal's number
LONGEST = 2000  # characters of a part of a message


class Failure(Exception):
    """A failure that is reported in one screen, without a traceback, and ends the command with ``exit_code``.

    Args:
      what: what is wrong, one sentence.
      where: the key, file or place it was found in.
      allowed: the values or shapes that would have been accepted.
      fix: what to do about it.
    """

    exit_code = INTERNAL

    def __init__(self, what: str, *, where: str = "", allowed: str = "", fix: str = ""):
        self.what, self.where, self.allowed, self.fix = map(shortened, (what, where, allowed, fix))
        rows = (("where", self.where), ("allowed", self.allowed), ("fix", self.fix))
        super().__init__("\n".join([self.what, *(f"  {label}: {text}" for label, text in rows if text)]))


class UserError(Failure):
    """The user's input is wrong; nothing was compiled or written."""

    exit_code = USER_ERROR


class StorageError(Failure):
    """The disk refused, or what it holds is damaged."""

    exit_code = STORAGE


class Stopped(Failure):
    """The run was asked to stop; its state is saved and the same command resumes it."""

    exit_code = RESUMABLE


class NonFiniteError(Failure):
    """A loss or gradient is not finite and the config says stop; or a model that is to write has no finite scores."""

    exit_code = NON_FINITE


def out_of_memory(error: BaseException) -> UserError | None:
    """What Python or JAX says when memory ran out, as the user's to change; None of other errors."""
    said = f"{type(error).__name__}: {error}"
    if not isinstance(error, MemoryError) and not ("RESOURCE_EXHAUSTED" in said and "RuntimeError" in said):
        return None
    return UserError(
        f"there is not enough memory: {str(error).splitlines()[0] if str(error) else 'an allocation failed'}",
        fix="launch.py plan says what takes how much; lower train.batch, raise train.accumulate, or set model.remat=full",
    )


LOST = re.compile(r"Gloo [\w -]+ failed|remote process exited|Timed out while waiting for \w+ barrier")  # its words


def lost_process(error: BaseException, who: str = "another process") -> Stopped | None:
    """What a collective says when the process at its other end is gone, as a launch to be resumed; None of other errors.

    Args:
      who: is gone, where that is known.
    """
    said = str(error)
    if isinstance(error, Failure) or not LOST.search(said):
        return None
    return Stopped(
        f"{who} of this launch {'are' if who.startswith('processes') else 'is'} gone: {said.splitlines()[0]}",
        fix="its own output says why; the same command resumes from the newest checkpoint",
    )


def shortened(text: str) -> str:
    """A text of which a message keeps beginning and end, where it is longer than one can read."""
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]} … {text[-LONGEST // 4 :]}"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint such as ``did you mean 'adamw'?``, or nothing where no known name is close."""
    near = closest(name, known)
    return f"did you mean {near!r}?" if near else ""


def closest(name: str, known: Iterable[str]) -> str:
    """The known name that is spelt most like ``name``, or nothing where none is close."""
    return next(iter(difflib.get_close_matches(name, list(known), n=1)), "")
