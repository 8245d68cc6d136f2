"""A terminal of its own for a command, whose Ctrl-C is a signal to it."""

import contextlib
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {"JAX_PLATFORMS": "cpu", "TERM": "dumb"}
TAKEN = "import fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"  # so that Ctrl-C is a signal
PATIENCE = 300  # seconds of silence that fail a test
CTRL_C, CTRL_D = "\x03", "\x04"


class Terminal:
    """What a person types and sees."""

    def __init__(self, leader: int, child: subprocess.Popen):
        self._leader, self.child = leader, child

    def type(self, text: str) -> None:
        os.write(self._leader, text.encode())

    def until(self, done: Callable[[str], bool]) -> str:
        """What is shown until that is enough; a child that fails or is silent for long fails the test."""
        shown, end = b"", time.monotonic() + PATIENCE
        while select.select([self._leader], [], [], max(0, end - time.monotonic()))[0]:
            try:
                shown += os.read(self._leader, 4096)
            except OSError:
                break
            text = shown.decode("utf-8", "replace").replace("\r", "")
            if done(text):
                return text
        raise AssertionError(f"only this was shown: {shown!r}")

    def interrupted(self) -> str:
        """What is shown after Ctrl-C where a line is asked for. One that comes just before Python waits for a key is noticed
        with the next one, so it is pressed again."""
        for _ in range(PATIENCE):
            self.type(CTRL_C)
            if select.select([self._leader], [], [], 1)[0]:
                return self.asked()
        raise AssertionError("nothing was shown")

    def asked(self) -> str:
        """What is shown until the next line is asked for."""
        return self.until(lambda shown: shown.endswith("> "))


@contextlib.contextmanager
def terminal(code: str, arguments: Sequence[str] = ()) -> Iterator[Terminal]:
    """A child that runs Python code at a terminal."""
    leader, follower = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-c", TAKEN + code, *arguments],
        stdin=follower,
        stdout=follower,
        stderr=follower,
        cwd=ROOT,
        start_new_session=True,
        env=os.environ | ENVIRONMENT,
    )
    os.close(follower)
    try:
        yield Terminal(leader, child)
    finally:
        if child.poll() is None:
            child.send_signal(signal.SIGKILL)
        child.wait()
        os.close(leader)
