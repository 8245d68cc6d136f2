"""Many programmes with their tests, judged by as many workers as there are cores."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import connection
from pathlib import Path
from typing import Any

from gpt_jax.errors import UserError

# -I but for the environment, whose one variable makes the order of sets the same in every run; and without bytecode.
PYTHON = ("-s", "-P", "-S", "-B")
ENVIRONMENT = {"PYTHONHASHSEED": "0"}
LIBRARIES = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")  # without them some interpreters do not start
GRACE = 10.0  # seconds that a worker has beyond those of its programme, or to end


@dataclass(frozen=True)
class Programme:
    """Python, and tests: texts of Python that run after it, in order, by its names. One that raises nothing has passed."""

    source: str
    tests: tuple[str, ...]


@dataclass(frozen=True)
class Bounds:
    """What a programme with its tests may take.

    Attributes:
      seconds: of the processor; by the clock twice as many and one.
      megabytes: of addresses; the interpreter itself has about 30.
      every: whether the tests after one that fails run.
    """

    seconds: float
    megabytes: int
    every: bool = False

    @property
    def wall(self) -> float:
        return 2 * self.seconds + 1


@dataclass(frozen=True)
class Verdict:
    """Whether each test passed, and the seconds by the clock that this took."""

    passed: tuple[bool, ...]
    seconds: float


def verdicts(programmes: Sequence[Programme], bounds: Bounds) -> list[Verdict]:
    """The verdict of each programme. One that ends its worker has passed nothing.

    However this ends, no process and no file of theirs is left; where this process is killed, its workers see to that.

    Raises:
      UserError: no worker starts.
    """
    waiting = list(enumerate(programmes))[::-1]
    found: dict[int, Verdict] = {}
    with _folder() as folder, contextlib.ExitStack() as stack:

        def start() -> _Worker:
            return stack.enter_context(contextlib.closing(_Worker(folder)))

        free = [start() for _ in range(min(_cores(), len(programmes)))]
        busy: dict[_Worker, int] = {}
        while waiting or busy:
            while waiting and free:
                busy[free[-1]], programme = waiting.pop()
                free.pop().order(programme, bounds)
            soonest = min(worker.deadline for worker in busy)
            waited_for: list[Any] = [*busy]  # it takes whatever has a file descriptor
            ready = connection.wait(waited_for, max(soonest - time.monotonic(), 0))
            for worker in [worker for worker in busy if worker in ready or worker.late]:
                verdict = worker.read() if worker in ready else worker.stopped()
                if verdict is not None:
                    found[busy.pop(worker)] = verdict
                    free.append(start() if worker.ended else worker)
    return [found[number] for number in range(len(programmes))]


class _Worker:
    """A process of ``worker.py``, with at most one programme at a time.

    Attributes:
      deadline: on the clock, of its programme.
      ended: it takes no more orders.
    """

    def __init__(self, folder: Path):
        libraries = {name: os.environ[name] for name in LIBRARIES if name in os.environ}
        self._process = subprocess.Popen(
            [sys.executable, *PYTHON, str(Path(__file__).with_name("worker.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=ENVIRONMENT | libraries,
            cwd=folder,
            start_new_session=True,
        )
        self._tests, self._group, self._begun = 0, 0, 0.0
        self._received = b""
        self.deadline = 0.0
        self.ended = False

    def fileno(self) -> int:
        assert self._process.stdout is not None
        return self._process.stdout.fileno()

    @property
    def late(self) -> bool:
        return time.monotonic() > self.deadline

    def order(self, programme: Programme, bounds: Bounds) -> None:
        """Has it judge a programme."""
        assert self._process.stdin is not None
        self._tests, self._group, self._begun = len(programme.tests), 0, time.monotonic()
        self.deadline = self._begun + bounds.wall + GRACE
        asked = {"source": programme.source, "tests": programme.tests, "every": bounds.every}
        asked |= {"seconds": bounds.seconds, "megabytes": bounds.megabytes, "wall": bounds.wall}
        with contextlib.suppress(BrokenPipeError):  # ``read`` finds its end
            self._process.stdin.write(json.dumps(asked).encode() + b"\n")
            self._process.stdin.flush()

    def read(self) -> Verdict | None:
        """Reads what it says now: the verdict, or None where that is still to come."""
        part = os.read(self.fileno(), 1 << 16)
        if not part:
            return self.stopped()
        *lines, self._received = (self._received + part).split(b"\n")
        for said in map(json.loads, lines):
            if isinstance(said, dict):
                self._group = 0
                return Verdict(tuple(said["passed"]), said["seconds"])
            self._group = said
        return None

    def stopped(self) -> Verdict:
        """Ends it and its programme, which has passed nothing.

        Raises:
          UserError: it has not begun with one.
        """
        self.ended, begun = True, self._group > 0
        self._kill()
        if not begun:
            raise UserError(
                f"{sys.executable} does not start as a process with its standard library alone",
                where=sys.executable,
                fix=f"see what {sys.executable} {' '.join(PYTHON)} -c pass says in an empty environment",
            )
        return Verdict((False,) * self._tests, time.monotonic() - self._begun)

    def close(self) -> None:
        """Ends it, by the end of its orders, which ends its programme, too."""
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
            self._process.wait(GRACE)
        except subprocess.TimeoutExpired:
            pass
        finally:
            self._kill()
            self._process.stdout.close()

    def _kill(self) -> None:
        self._process.kill()
        if self._group:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._group, signal.SIGKILL)
        self._group = 0
        self._process.wait()


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """A temporary folder, which is removed with all that programmes left in it."""
    folder = Path(tempfile.mkdtemp(prefix="gpt_jax-"))
    try:
        yield folder
    finally:
        from gpt_jax.judge.sandbox.worker import remove  # needs what only POSIX has

        remove(folder)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
