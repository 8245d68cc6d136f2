"""Runs programmes one after another, each in a process that is forked for it. ``pool`` starts this file as a script, so that
it imports nothing but the standard library, and a fork is of a small process with one thread.

An order is a line of JSON on standard input. It is answered by two lines on standard output: the group of the programme's
processes, before it begins, and its verdict. When standard input ends, whatever still runs is ended, and all files are
removed.
"""

import _thread
import contextlib
import json
import math
import os
import random
import resource
import select
import signal
import stat
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

IGNORED = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGUSR1,
)  # they are for the run, which goes on to a save
FILE_BYTES, FILES = 16 << 20, 64  # of a file, and open at once
KEY = 16  # bytes
PASSED = KEY + 4  # of the message that a test has passed: the key, and the number of the test
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
# What a programme may not do, as audit events: processes, threads, signals, connections, calls of C, and other limits.
REFUSED: tuple[str, ...] = (
    "os.exec",
    "os.fork",
    "os.posix_spawn",
    "os.spawn",
    "os.system",
    "pty.spawn",
    "subprocess.",
    "_thread.start",
)
REFUSED += ("os.kill", "signal.pthread_kill", "resource.", "ctypes.")
REFUSED += ("socket.bind", "socket.connect", "socket.getaddrinfo", "socket.gethostby", "socket.send")
# What it may do in its own folder alone: event -> the places of paths in its arguments, and of the descriptors of the
# folders that these are relative to.
CHANGES: dict[str, tuple[tuple[int, int], ...]] = {
    "os.chmod": ((0, 2),),
    "os.chown": ((0, 3),),
    "os.link": ((0, 2), (1, 3)),
    "os.mkdir": ((0, 2),),
    "os.remove": ((0, 1),),
    "os.rename": ((0, 2), (1, 3)),
    "os.rmdir": ((0, 1),),
    "os.symlink": ((1, 2),),
    "os.truncate": ((0, 2),),
    "os.utime": ((0, 3),),
}


def main() -> None:
    for ignored in IGNORED:
        signal.signal(ignored, signal.SIG_IGN)
    os.environ.clear()
    shared = Path.cwd()
    own = shared / str(os.getpid())
    own.mkdir()
    with contextlib.suppress(BrokenPipeError):  # the run ended; what it ordered before is still to be read
        for number, line in enumerate(iter(sys.stdin.buffer.readline, b"")):
            folder = own / str(number)
            folder.mkdir()
            verdict = _judged(json.loads(line), folder)
            remove(folder)
            if verdict is None:
                break
            _answer(verdict)
    remove(own)
    with contextlib.suppress(OSError):  # others are there, of which the last one removes it
        shared.rmdir()


def remove(folder: Path) -> None:
    """Removes a folder with all that is in it, as far as the system lets us, however deep that is."""
    with contextlib.suppress(OSError):
        while inner := list(os.scandir(folder)):
            for entry in inner:
                if entry.is_dir(follow_symlinks=False):
                    _lift(entry.path, folder)
                else:
                    os.unlink(entry.path)
        folder.rmdir()


def _lift(path: str, folder: Path) -> None:
    """Moves what is in a folder to ``folder``, and removes it: nothing is opened at a depth that has no end."""
    os.chmod(path, stat.S_IRWXU)
    for entry in list(os.scandir(path)):
        if entry.is_dir(follow_symlinks=False):
            os.chmod(entry.path, stat.S_IRWXU)  # else it cannot be moved
        os.rename(entry.path, folder / os.urandom(8).hex())
    os.rmdir(path)


def _answer(said: Any) -> None:
    sys.stdout.write(json.dumps(said) + "\n")
    sys.stdout.flush()


def _judged(order: dict[str, Any], folder: Path) -> dict[str, Any] | None:
    """Which tests of an order passed, and the seconds that this took; None where nobody waits for it any more."""
    begun = time.monotonic()
    (keys, to_keys), (said, to_said) = os.pipe(), os.pipe()
    programme = os.fork()
    if not programme:
        try:
            os.close(to_keys)
            os.close(said)
            _programme(order, folder, keys, to_said)
        finally:
            os._exit(0)
    os.close(keys)
    os.close(to_said)
    _answer(programme)
    key = os.urandom(KEY)  # after the fork: it is nowhere in the programme's memory
    os.write(to_keys, b"!" + key)
    most = PASSED * len(order["tests"])
    received, waited_for = _received(said, most, begun + order["wall"])
    for kill in (os.kill, os.killpg):  # it may not be a group yet
        with contextlib.suppress(ProcessLookupError):
            kill(programme, signal.SIGKILL)
    os.waitpid(programme, 0)
    os.close(to_keys)
    os.close(said)
    wanted = [key + number.to_bytes(PASSED - KEY, "big") for number in range(len(order["tests"]))]
    found = [received[i : i + PASSED] for i in range(0, len(received), PASSED)]
    genuine = set(found) <= set(wanted)
    passed = [genuine and message in found for message in wanted]
    return {"passed": passed, "seconds": time.monotonic() - begun} if waited_for else None


def _received(said: int, most: int, deadline: float) -> tuple[bytes, bool]:
    """What a programme says until it ends, its time is over, or it has said more than it can have to; and whether somebody
    still waits for it."""
    received = b""
    while len(received) <= most:
        ready, _, _ = select.select([said, sys.stdin], [], [], max(deadline - time.monotonic(), 0))
        if sys.stdin in ready:  # at its end: an order only comes after the answer to the one before
            return received, False
        part = os.read(said, 1 << 16) if ready else b""
        if not part:
            break
        received += part
    return received, True


def _programme(order: dict[str, Any], folder: Path, keys: int, said: int) -> None:
    """Runs a programme and its tests in this process. What is used after the programme's first line is taken before it."""
    os.setsid()
    os.chdir(folder)
    os.environ.update(HOME=str(folder), TMPDIR=str(folder))
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(nothing, stream)
    if not os.read(keys, 1):
        return
    random.seed(0)
    tests = [compile(test, "<test>", "exec") for test in order["tests"]]
    run, read, write, leave = exec, os.read, os.write, os._exit
    messages = [number.to_bytes(PASSED - KEY, "big") for number in range(len(tests))]
    module = types.ModuleType("programme")  # not __main__: what stands below that test is no part of an answer
    sys.modules["programme"] = module
    sys.argv = ["programme"]
    _limit(order["seconds"], order["megabytes"])
    sys.addaudithook(_guard(os.path.realpath(folder)))
    _thread.start_new_thread = _no_thread  # Python 3.11 has no event for it, and the limit of processes none for root
    run(compile(order["source"], "<programme>", "exec"), module.__dict__)
    key = read(keys, KEY)
    for test, message in zip(tests, messages, strict=True):
        try:
            run(test, module.__dict__)
        except BaseException:
            if not order["every"]:
                leave(0)
        else:
            write(said, key + message)


def _no_thread(*_: Any, **__: Any) -> int:
    raise PermissionError("a programme may not: _thread.start_new_thread")


def _limit(seconds: float, megabytes: int) -> None:
    """``seconds`` of processor time, which the load of the machine does not change, and what else the system counts."""
    signal.setitimer(signal.ITIMER_PROF, seconds)
    hard = math.ceil(seconds) + 1  # in whole seconds; for a programme that stops the timer
    sizes = {"AS": megabytes << 20, "CPU": hard, "FSIZE": FILE_BYTES, "NOFILE": FILES, "NPROC": 0, "CORE": 0}
    for name, size in sizes.items():
        with contextlib.suppress(ValueError, OSError):  # it is lower already, or one that this system does not have
            resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (size, size))


def _guard(folder: str) -> Callable[[str, tuple], None]:
    """A hook that refuses what is no programme's business; it cannot be removed. A programme that wants to gets around
    it."""
    realpath, join, decode, readlink, devnull = os.path.realpath, os.path.join, os.fsdecode, os.readlink, os.devnull

    def inside(path: Any, at: Any) -> bool:
        if isinstance(path, int):  # a descriptor, whose file was opened before
            return True
        path = decode(path)
        if isinstance(at, int) and at >= 0:
            path = join(readlink(f"/proc/self/fd/{at}"), path)
        return path == devnull or f"{realpath(path)}/".startswith(f"{folder}/")

    def hook(event: str, given: tuple) -> None:
        if event == "open" and given[2] & WRITES:
            allowed = inside(given[0], None)
        elif event in CHANGES:
            named = [(given[path], given[at] if at < len(given) else None) for path, at in CHANGES[event]]
            allowed = all(inside(path, at) for path, at in named)
        else:
            allowed = not event.startswith(REFUSED)
        if not allowed:
            raise PermissionError(f"a programme may not: {event}")

    return hook


if __name__ == "__main__":
    main()
