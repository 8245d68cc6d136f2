"""Requests to stop: a signal sets a flag, which the loop reads between steps."""

import signal
from types import FrameType
from typing import Any

from gpt_jax.mesh import collectives

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)  # what schedulers and people send ahead of the kill


class StopRequest:
    """Context manager that turns SIGTERM, SIGINT and SIGUSR1 into ``requested``; a second SIGINT interrupts at once.

    Enter it in the main thread and after ``jax.distributed`` has started, whose own handler would replace these.

    Attributes:
      signal: the first signal that came, else None.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._interrupts = 0
        self._before: dict[signal.Signals, Any] = {}

    @property
    def requested(self) -> bool:
        """Whether this process was asked to stop."""
        return self.signal is not None

    def agreed(self) -> bool:
        """Whether any process was asked to stop; all processes call it at the same step and get the same answer."""
        number = collectives.all_reduce_max(self.signal or 0)
        if number and self.signal is None:
            self.signal = signal.Signals(number)
        return number > 0

    def __enter__(self) -> "StopRequest":
        self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            # None: a handler that was not set from Python and cannot be set again from it.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._interrupts += number == signal.SIGINT
        if self._interrupts > 1:
            raise KeyboardInterrupt
        if self.signal is None:
            self.signal = signal.Signals(number)
