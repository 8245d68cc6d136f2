"""What --tasks asks for of the harness: ``lm_eval:NAME``, or a directory of task files, with options after colons."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from gpt_jax.errors import UserError

PREFIX = "lm_eval:"
SHAPE = "lm_eval:NAME, lm_eval:DIRECTORY or lm_eval:FILE.yaml, then :shots=K, :limit=N or :chat where wanted"


@dataclass(frozen=True)
class Asked:
    """A task, a group or a directory of tasks.

    Attributes:
      shots: examples in the prompt; None = what the task says.
      limit: documents of a task that are used, from the first on; None = all.
      chat: whether the run's template writes the prompts, examples as turns.
    """

    name: str
    shots: int | None = None
    limit: int | None = None
    chat: bool = False

    @property
    def options(self) -> tuple:
        return self.shots, self.limit, self.chat


def asked(tasks: Sequence[str]) -> list[Asked]:
    """What the words of --tasks say.

    Raises:
      UserError: one has no name, or an option that there is not.
    """
    return [_read(task) for task in tasks]


def _read(task: str) -> Asked:
    name, *options = task.removeprefix(PREFIX).split(":")
    if not name:
        raise UserError(f"{task!r} names no task", where="--tasks", allowed=SHAPE)
    found = Asked(name)
    for option in options:
        key, _, value = option.partition("=")
        number = int(value) if value.isdecimal() else -1
        if option == "chat":
            found = dataclasses.replace(found, chat=True)
        elif key == "shots" and number >= 0:
            found = dataclasses.replace(found, shots=number)
        elif key == "limit" and number >= 1:
            found = dataclasses.replace(found, limit=number)
        else:
            raise UserError(f"{task!r} has the option {option!r}", where="--tasks", allowed=SHAPE)
    return found
