"""The phases of a launch, and their clock. A launch of several processes does not hang: a process that waits too long says
where it stands, and ends."""

import contextlib
import faulthandler
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from gpt_jax.config import MeshConfig
from gpt_jax.errors import RESUMABLE, UserError
from gpt_jax.mesh import presence

FOLDER = "stacks"  # of a run directory
START, RESTORE, COMPILE = "start", "restore", "compile"
DATA, ROLLOUTS, STEP = "data", "rollouts", "steps"
EVALUATION, SAVE, END = "evaluation", "save", "end"
WORDS = {
    **{START: "the start", RESTORE: "reading the state", COMPILE: "compilation"},
    **{DATA: "a batch", ROLLOUTS: "a batch of rollouts", STEP: "a step"},
    **{EVALUATION: "an evaluation", SAVE: "a save", END: "the end of the run"},
}
OF_STEPS = (DATA, ROLLOUTS, STEP)  # what ``mesh.step_timeout`` bounds
EVERY = 0.5  # seconds between two looks at the clock


class Phases:
    """The clock of a launch: from its start on it is always in one of the phases of ``WORDS``.

    Attributes:
      now: the phase, the second at which it began, and the completed steps by then, 0 where there are none.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._seconds = dict.fromkeys(WORDS, 0.0)
        self.now = START, clock(), 0

    def begin(self, phase: str, step: int = 0) -> None:
        """What the process does from here on."""
        (before, began, _), now = self.now, self._clock()
        self._seconds[before] += now - began
        self.now = phase, now, step

    def rename(self, phase: str) -> None:
        """What the process has done since the last ``begin`` counts as another phase."""
        self.now = phase, *self.now[1:]

    @property
    def elapsed(self) -> float:
        """Seconds of the phase that it is in."""
        return self._clock() - self.now[1]

    @property
    def seconds(self) -> dict[str, float]:
        """By phase, up to now; their sum is the time since the start."""
        phase = self.now[0]
        return self._seconds | {phase: self._seconds[phase] + self.elapsed}


class Watchdog:
    """Context manager: ends this process, exit code 75, when a phase of the run has taken longer than it may, the stacks of
    all threads in ``stacks/process-K.txt`` of the run directory. They go there too where JAX ends the process, as when
    another one no longer answers.

    A process alone is not watched: nobody waits for it, and its user may suspend it.
    """

    def __init__(self, workdir: Path, limits: MeshConfig, phases: Phases):
        self._path = workdir / FOLDER / f"process-{jax.process_index()}.txt"
        self._limits, self._phases = limits, phases
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

    def _work(self) -> None:
        while not self._done.wait(EVERY):
            (phase, _, step), took = self._phases.now, self._phases.elapsed
            limit = self._limits.step_timeout if phase in OF_STEPS else self._limits.phase_timeout
            if took > limit:
                self._end(phase, step, took)

    def _end(self, phase: str, step: int, took: float) -> None:
        rank, count = jax.process_index(), jax.process_count()
        silent = presence.gone()
        who = f"no answer from {silent}" if silent else "it may be another that hangs"
        place = f", after step {step}" if step else ""
        print(f"process {rank} of {count}: {WORDS[phase]} took {took:.0f} s{place}\n", file=self._file, flush=True)
        faulthandler.dump_traceback(self._file)
        knob = "step_timeout" if phase in OF_STEPS else "phase_timeout"
        error = UserError(
            f"process {rank} of {count} has waited {took:.0f} s in {WORDS[phase]}{place}; {who}",
            where=str(self._path),
            fix=f"compare the stacks of all processes there; the same command resumes the run; --config.mesh.{knob}=SECONDS "
            "gives more time",
        )
        print(f"error: {error}", file=sys.stderr, flush=True)
        presence.leave_last()
        os._exit(RESUMABLE)
