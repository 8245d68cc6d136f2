"""A command in a process of its own, forked from one that has imported everything and used nothing of it: 3 s of imports
are paid once, and a crash or a hang is one case's."""

import contextlib
import importlib
import os
import pkgutil
import resource
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

MEMORY = 8 << 30  # bytes of address space of a case
CPU_SECONDS, SECONDS = 60, 240  # of a case, beyond which it hangs; others may be using the machine too
LARGEST_FILE = 1 << 30
STDIN, STDOUT, STDERR = (
    "stdin.txt",
    "stdout.txt",
    "stderr.txt",
)  # of a case, in its folder
STREAMS = ((0, "r", "strict"), (1, "w", "strict"), (2, "w", "backslashreplace"))  # as Python opens them itself


@dataclass(frozen=True)
class Ended:
    """How a case ended: the exit code, or minus the signal that ended it."""

    code: int
    seconds: float
    hung: bool
    said: str
    printed: str


def prepare() -> None:
    """Imports whatever commands import, and makes no use of JAX: what has threads cannot be forked."""
    import gpt_jax

    for module in pkgutil.walk_packages(gpt_jax.__path__, "gpt_jax."):
        if not module.name.startswith("gpt_jax.configs.") and not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    import orbax.checkpoint  # noqa: F401
    import tokenizers  # noqa: F401

    warnings.filterwarnings("ignore", message=".*fork")


class Child:
    """A running case. ``ended()`` is None until it is over."""

    def __init__(self, work: Callable[[], int], folder: Path):
        self.folder = folder
        self._begun = time.monotonic()
        sys.stdout.flush(), sys.stderr.flush()
        self.pid = os.fork()
        if not self.pid:
            _become(work, folder)
        with contextlib.suppress(OSError):
            os.setpgid(self.pid, self.pid)
        self._killed = False

    def ended(self) -> Ended | None:
        seconds = time.monotonic() - self._begun
        if not self._killed and (seconds > SECONDS or _cpu_seconds(self.pid) > CPU_SECONDS):
            self.kill()
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if not pid:
            return None
        said, printed = (_read(self.folder / name) for name in (STDERR, STDOUT))
        self._reap()
        return Ended(os.waitstatus_to_exitcode(status), seconds, self._killed, said, printed)

    def kill(self) -> None:
        """With all that it has started."""
        self._killed = True
        self._reap()

    def _reap(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)


def run(work: Callable[[], int], folder: Path) -> Ended:
    """Runs one case to its end."""
    child = Child(work, folder)
    while (ended := child.ended()) is None:
        time.sleep(0.01)
    return ended


def command(argv: Sequence[str]) -> Callable[[], int]:
    def work() -> int:
        from gpt_jax.main import main

        return main(list(argv))

    return work


def _become(work: Callable[[], int], folder: Path) -> None:
    code = 71
    try:
        os.setpgid(0, 0)
        for descriptor, name in ((1, STDOUT), (2, STDERR)):
            file = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(file, descriptor)
        typed = folder / STDIN
        os.dup2(os.open(typed if typed.is_file() else os.devnull, os.O_RDONLY), 0)
        sys.stdin, sys.stdout, sys.stderr = (
            open(i, mode, encoding="utf-8", errors=errors) for i, mode, errors in STREAMS
        )
        for limit, value in (
            (resource.RLIMIT_AS, MEMORY),
            (resource.RLIMIT_CORE, 0),
            (resource.RLIMIT_FSIZE, LARGEST_FILE),
        ):
            resource.setrlimit(limit, (value, value))
        os.environ["HOME"] = str(folder)
        os.environ.pop("XDG_CACHE_HOME", None)
        os.chdir(folder)
        code = work()
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            sys.stdout.flush(), sys.stderr.flush()
        os._exit(code)


def _cpu_seconds(pid: int) -> float:
    """Used by a process so far; 0 where the system does not say."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8", "replace")
    except OSError:
        return ""
