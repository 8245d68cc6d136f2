"""Requests to stop: a signal is acknowledged at once, and sets a flag that the loop reads between steps."""

import os
import signal
import sys
import threading
import time
from types import FrameType
from typing import Any

import jax

from gpt_jax import bars
from gpt_jax.errors import Stopped
from gpt_jax.mesh import collectives

# What schedulers, people and closing terminals send ahead of the kill.
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP)
AGAIN = 0.05  # seconds until what was ignored is raised again


class _NothingToSave(KeyboardInterrupt):
    """A request to stop before the first step: raised wherever the program is, past every ``except Exception``."""


class StopRequest:
    """Context manager that turns ``SIGNALS`` into ``requested``; a second SIGINT interrupts at once. A signal that was
    ignored before, such as SIGHUP under nohup, stays ignored.

    Enter it in the main thread and after ``jax.distributed`` has started, whose own handler would replace these.

    Attributes:
      signal: the first signal that came, else None.
      interrupts: how many SIGINTs Python's handler has run for.

    Raises:
      Stopped: on leaving, where a signal ended what was within; see ``nothing_to_save``.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self.interrupts = 0
        self._ends_at_once = False
        self._raised = False
        self._again: threading.Timer | None = None
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

    def nothing_to_save(self) -> None:
        """From here on a signal does not wait for a step: it ends what is within as soon as Python runs again. One of
        several processes waits nevertheless: the others would wait for it."""
        self._ends_at_once = jax.process_count() == 1
        if self._ends_at_once and self.requested:
            raise _NothingToSave

    def check(self) -> None:
        """Ends what is within where any process was asked to stop; all processes call it before their first step."""
        if self.agreed():
            raise _NothingToSave

    def wait_for_steps(self) -> None:
        """The end of ``nothing_to_save``: there is a step now that would be lost."""
        self._ends_at_once = self._raised = False

    def __enter__(self) -> "StopRequest":
        watched = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        self._unraisable, sys.unraisablehook = sys.unraisablehook, self._raise_again
        self._acknowledge = _Acknowledgement(watched, self)
        self._before = {number: signal.signal(number, self._note) for number in watched}
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        sys.unraisablehook = self._unraisable
        self._ends_at_once = False
        self.interrupts = 0  # none is sent again
        if self._again is not None:
            self._again.cancel()
            self._again.join()  # else it may find the former handlers, which end the process
        for number, handler in self._before.items():
            # None: a handler that was not set from Python and cannot be set again from it.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._acknowledge.close()
        # As another exception it comes out of what JAX calls from C++, such as the hash of an argument.
        if kind is not None and (kind is _NothingToSave or (self._raised and issubclass(kind, Exception))):
            name = self.signal.name if self.signal else "a signal"
            raise Stopped(
                f"stopped by {name} before a step was done; nothing is lost", fix="the same command resumes it"
            )

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT:
            self.interrupts = max(self.interrupts + 1, self._acknowledge.interrupts)
        if self.interrupts > 1:
            raise KeyboardInterrupt
        if self.signal is None:
            self.signal = signal.Signals(number)
        if self._ends_at_once:
            self._ends_at_once, self._raised = False, True
            raise _NothingToSave

    def _raise_again(self, ignored: Any) -> None:
        """The hook of what goes no further than where it was raised: a callback of the garbage collector, of which JAX has
        one, or a destructor. A request to stop comes again a moment later."""
        if self.signal is None or not issubclass(ignored.exc_type, KeyboardInterrupt):
            self._unraisable(ignored)
            return
        self._ends_at_once, self._raised = ignored.exc_type is _NothingToSave, False
        for counted in (self, self._acknowledge):
            counted.interrupts -= self.signal is signal.SIGINT  # the same one, not one more
        self._again = threading.Timer(AGAIN, signal.pthread_kill, [threading.main_thread().ident, self.signal])
        self._again.start()


class _Acknowledgement:
    """A thread that says that a signal has come, while the main one may be compiling or tokenising: Python's own handlers
    wait for that, what arrives at the wakeup descriptor does not.

    Attributes:
      interrupts: how many SIGINTs came. Python runs the handler once for two that come before it runs.
    """

    def __init__(self, watched: list[signal.Signals], request: StopRequest):
        self.interrupts = 0
        self._watched, self._request, self._main = watched, request, threading.get_ident()
        self._reading, self._writing = os.pipe()
        os.set_blocking(self._writing, False)
        self._before = signal.set_wakeup_fd(self._writing, warn_on_full_buffer=False)
        self._thread = threading.Thread(target=self._work, name="signals", daemon=True)
        self._thread.start()

    def close(self) -> None:
        signal.set_wakeup_fd(self._before)
        os.close(self._writing)
        self._thread.join()
        os.close(self._reading)

    def _work(self) -> None:
        while numbers := os.read(self._reading, 64):
            for number in numbers:
                self.interrupts += number == signal.SIGINT
                if number in self._watched:
                    name, self._watched = signal.Signals(number).name, []
                    start = "\n" if bars.terminal(sys.stderr) else ""  # below a progress bar
                    said = f"{name}: stopping, nothing will be lost; a second Ctrl-C does not wait"
                    print(f"{start}{said}", file=sys.stderr, flush=True)
            if self.interrupts > 1:
                time.sleep(AGAIN)
                if self._request.interrupts == 1:  # the handler ran once for both, before the second was counted here
                    signal.pthread_kill(self._main, signal.SIGINT)
