"""The verbs of the command line: each file is one, found by its name."""

import abc
from typing import Any

from gpt_jax.commands.flags import Flags


class Command(abc.ABC):
    """A verb. The first line of its docstring says what it does.

    Attributes:
      usage: its flags with an example's values, a line each, without the verb.
      works: whether it does more than print, so that it goes on where nobody reads what it prints.
    """

    usage: tuple[str, ...]
    works: bool = False

    @abc.abstractmethod
    def define(self, flags: Flags) -> None:
        """Declares the verb's flags."""

    @abc.abstractmethod
    def run(self, flags: Any) -> None:
        """Does it, with ``flags.NAME`` for the values."""

    @property
    def summary(self) -> str:
        return (type(self).__doc__ or "").splitlines()[0].rstrip(".")
