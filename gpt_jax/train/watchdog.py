"""A launch of several processes does not hang: a process that waits too long says where it stands, and ends."""

import contextlib
import faulthandler
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import jax

from gpt_jax.config import MeshConfig
from gpt_jax.errors import RESUMABLE, UserError

FOLDER = "stacks"  # of a run directory
STEP = "a step"
EVERY = 0.5  # seconds between two looks at the clock


class Watchdog:
    """Context manager: ends this process, exit code 75, when a phase of the run has taken longer than it may, the stacks of
    all threads in ``stacks/process-K.txt`` of the run directory. They go there too where JAX ends the process, as when
    another one no longer answers.

    A process alone is not watched: nobody waits for it, and its user may suspend it.
    """

    def __init__(self, workdir: Path, limits: MeshConfig):
        self._path = workdir / FOLDER / f"process-{jax.process_index()}.txt"
        self._limits = limits
        self._phase, self._began, self._step = "", time.monotonic(), 0
        self._done = threading.Event()
        self._file: Any = None

    def __enter__(self) -> "Watchdog":
        if jax.process_count() > 1:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("w", encoding="utf-8")
            faulthandler.enable(self._file)
            self._thread = threading.Thread(target=self._work, name="watchdog", daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        if self._file is None:
            return
        self._thread.join()
        faulthandler.disable()
        self._file.close()
        with contextlib.suppress(OSError):  # the last to leave takes the folders that nothing else is in
            if not self._path.stat().st_size:
                self._path.unlink()
            self._path.parent.rmdir()
            self._path.parent.parent.rmdir()

    def begin(self, phase: str, step: int = 0) -> None:
        """What the process does from here on; the clock of the phase starts."""
        self._phase, self._began, self._step = phase, time.monotonic(), step

    def _limit(self) -> float:
        return self._limits.step_timeout if self._phase == STEP else self._limits.phase_timeout

    def _work(self) -> None:
        while not self._done.wait(EVERY):
            phase, took, limit = self._phase, time.monotonic() - self._began, self._limit()
            if phase and took > limit:
                self._end(phase, took)

    def _end(self, phase: str, took: float) -> None:
        rank, count = jax.process_index(), jax.process_count()
        place = f", after step {self._step}" if self._step else ""
        print(f"process {rank} of {count}: {phase} took {took:.0f} s{place}\n", file=self._file, flush=True)
        faulthandler.dump_traceback(self._file)
        knob = "step_timeout" if phase == STEP else "phase_timeout"
        error = UserError(
            f"process {rank} of {count} has waited {took:.0f} s in {phase}{place}; it may be another that hangs",
            where=str(self._path),
            fix=f"compare the stacks of all processes there; the same command resumes the run; --config.mesh.{knob}=SECONDS "
            "gives more time",
        )
        print(f"error: {error}", file=sys.stderr, flush=True)
        os._exit(RESUMABLE)
