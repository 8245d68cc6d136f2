"""One run per run directory: a lock that the kernel releases when its owner ends, and a note of the owner."""

import contextlib
import fcntl
import json
import os
import platform
import time
from pathlib import Path

from gpt_jax.errors import StorageError, UserError
from gpt_jax.storage import NO_LOCKS, fields_that_differ

NAME = ".lock"
_NOTE = {**dict.fromkeys(("host", "boot", "born", "since"), str), "pid": int}
_PATIENCE = 1.0  # seconds an owner may take between locking and writing its note


class WorkdirLock:
    """Context manager that holds ``workdir/.lock``; the directory is made if need be.

    The lock of a dead owner is taken over. Where the file system has no locks, the note decides: an owner on this
    machine is looked up by process id and start time, one on another machine counts as alive.

    Raises:
      UserError: another run holds it (host and process id are named), or the directory cannot be written.
    """

    def __init__(self, workdir: str | Path):
        self.workdir = Path(workdir)
        self.path = self.workdir / NAME
        self._descriptor = -1

    def __enter__(self) -> "WorkdirLock":
        try:
            self.workdir.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise UserError(
                f"the run directory cannot be written: {error.strerror}",
                where=str(self.workdir),
                allowed="a directory this user may create files in",
                fix="choose another --workdir",
            ) from error
        try:
            self._take(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):  # a note that stays names a process that is no more
            os.ftruncate(self._descriptor, 0)
        os.close(self._descriptor)  # releases it; the file stays, since removing it would race with the next owner
        self._descriptor = -1

    def _take(self, descriptor: int) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise self._refusal(_owner(descriptor, _PATIENCE)) from None
        except OSError as error:
            owner = _owner(descriptor, 0)
            if error.errno not in NO_LOCKS or owner:
                raise self._refusal(owner) from error
        note = {
            "host": platform.node(),
            "pid": os.getpid(),
            "boot": _boot(),
            "born": _born(os.getpid()),
            "since": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        }
        try:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps(note).encode(), 0)
            os.fsync(descriptor)
        except OSError as error:
            raise StorageError(f"the lock cannot be written: {error.strerror}", where=str(self.path)) from error

    def _refusal(self, owner: dict) -> UserError:
        who = "host {host}, process {pid}, since {since}".format(**owner) if owner else "an unknown process"
        return UserError(
            f"another run uses this run directory: {who}",
            where=str(self.workdir),
            fix="wait for it, stop it, or choose another --workdir"
            f" (if it is dead and its machine is gone, remove {self.path})",
        )


def owner(workdir: str | Path) -> dict:
    """The host, process and beginning of the run that holds a run directory now, as it has noted them; {} where none does,
    or the note cannot be read."""
    try:
        descriptor = os.open(Path(workdir) / NAME, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return {}
    try:
        return _owner(descriptor, 0)
    finally:
        os.close(descriptor)


def _owner(descriptor: int, patience: float) -> dict:
    """The running owner noted in a lock file, waiting ``patience`` seconds for the note; {} where there is none."""
    deadline = time.monotonic() + patience
    while True:
        try:
            note = json.loads(os.pread(descriptor, 4096, 0))
            whole = not fields_that_differ(note, _NOTE) and note.keys() >= _NOTE.keys()
        except (OSError, ValueError, RecursionError):  # empty, half written, damaged, or no file
            whole = False
        if whole and _alive(note):
            return note
        if time.monotonic() >= deadline:
            return {}
        time.sleep(0.02)


def _alive(owner: dict) -> bool:
    if owner["host"] != platform.node():
        return True
    try:
        os.kill(owner["pid"], 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass  # it is running, as another user
    return owner["boot"] == _boot() and owner["born"] == _born(owner["pid"])


def _boot() -> str:
    """Which boot of this machine it is; empty where it is not known."""
    return _text("/proc/sys/kernel/random/boot_id").strip()


def _born(pid: int) -> str:
    """When a process started, in clock ticks since boot (proc(5), field 22 of stat); empty where it is not known."""
    fields = _text(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return fields[19] if fields else ""


def _text(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
