"""A training as a job of SLURM: submits it, and prints what it prints until it ends. SLURM has the state of the job, the
run directory that of the run."""

import dataclasses
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from gpt_jax.cluster import devices, slurm
from gpt_jax.cluster.program import python_module
from gpt_jax.config import Config
from gpt_jax.errors import DONE, INTERNAL, NON_FINITE, RESUMABLE, STORAGE, USER_ERROR, Failure, Stopped, UserError
from gpt_jax.storage import make_folder, read_json, write_json
from gpt_jax.train.signals import StopRequest

FOLDER, SCRIPT, RECORD = "slurm", "train.sbatch", "job.json"
POLL, TICK = 4.0, 0.5  # seconds between two questions to SLURM, and two looks at what the job printed
SHOWN = 2000  # bytes of what a job printed before it is monitored again
# States in which a job is over. SLURM ends the second kind itself, and the run can be resumed.
ENDED = ("COMPLETED", "FAILED", "OUT_OF_MEMORY", "BOOT_FAIL")
STOPPED = ("CANCELLED", "DEADLINE", "NODE_FAIL", "PREEMPTED", "REVOKED", "TIMEOUT")
OWN_CODES = (USER_ERROR, INTERNAL, STORAGE, RESUMABLE, NON_FINITE)


@dataclasses.dataclass(frozen=True)
class State:
    """What SLURM says of a job: ``code`` is the exit code of its script, ``killed`` the number of a signal that ended it."""

    name: str
    reason: str = ""
    nodes: str = ""
    restarts: int = 0
    code: int = 0
    killed: int = 0

    @property
    def over(self) -> bool:
        return self.name in ENDED + STOPPED

    def __str__(self) -> str:
        started = f", started again ({self.restarts})" * (self.restarts > 0 and self.name == "RUNNING")
        waits = f" ({self.reason})" if self.reason not in ("", "None") else ""
        return f"{self.name}{waits}" + (f" on {self.nodes}" if self.nodes and not self.over else "") + started


def train(config: Config, workdir: Path, words: Sequence[str], options: str) -> None:
    """Submits a training, or finds it in the queue, and returns when it is done.

    Args:
      config: the settings that the words give.
      words: the flags of the verb train, for the job.
      options: of sbatch, in one text.

    Raises:
      UserError: there is no SLURM here, it rejects the job, another job of this run is in the queue, or the mesh does not
        fit the GPUs asked for.
      Stopped: a signal ended the monitoring, not the job; or SLURM ended the job.
      Failure: the training failed; the exit code is its own.
    """
    given = slurm.options_of(options)
    slurm.check()
    if asked_for := devices.of_slurm(given):
        devices.check(config, asked_for)
    directory = make_folder(workdir / FOLDER)
    asked = {"command": [*python_module("gpt_jax"), "train", *words], "options": given}
    number, seen = _queued(directory, asked), SHOWN
    if not number:
        text = slurm.script(
            f"train-{workdir.resolve().name}", f"{slurm.escaped(directory)}/job-%j.txt", asked["command"]
        )
        number, seen = slurm.submit(directory / SCRIPT, text, given), 0
        write_json(directory / RECORD, {"job": number, **asked})
    output = directory / f"job-{number}.txt"
    print(f"SLURM job {number} of {workdir}, which prints to {output}", flush=True)
    with StopRequest() as stop:
        state = _monitor(number, _Output(output, seen), stop)
    if state is None:
        raise Stopped(
            f"job {number} keeps running",
            where=str(output),
            fix=f"the same command monitors it again, scancel {number} cancels it",
        )
    _conclude(number, state, output)


def state_of(number: str) -> State | None:
    """None where SLURM has forgotten the job.

    Raises:
      UserError: SLURM does not answer.
    """
    try:
        said = slurm.ask("scontrol", "--oneliner", "show", "job", number)
    except UserError as error:
        if "Invalid job id" in error.what:
            return None
        raise
    fields = dict(re.findall(r"(?:^|\s)(\w+)=(\S*)", said))
    code, _, killed = fields.get("ExitCode", "0:0").partition(":")
    nodes = fields.get("NodeList", "").replace("(null)", "")
    return State(
        fields["JobState"], fields.get("Reason", ""), nodes, int(fields.get("Restarts", 0)), int(code), int(killed)
    )


def _queued(directory: Path, asked: dict[str, list[str]]) -> str:
    """The number of this run's job in the queue, if there is one."""
    kept = read_json(directory / RECORD, missing={})
    state = state_of(kept["job"]) if kept else None
    if state is None or state.over:
        return ""
    if any(kept[name] != asked[name] for name in asked):
        raise UserError(
            f"job {kept['job']} of this run is in the queue, with other settings or options",
            where=str(directory / RECORD),
            fix=f"give the same command to monitor it, or cancel it before: scancel {kept['job']}",
        )
    return kept["job"]


class _Output:
    """Prints what is new in a file that a job writes."""

    def __init__(self, path: Path, seen: int):
        """``seen``: bytes before its end to begin with, where somebody has read it before; else 0."""
        self._path = path
        self._at = max(0, path.stat().st_size - seen) if seen and path.exists() else 0

    def draw(self) -> None:
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._at)
            new = file.read()
        self._at += len(new)
        if new:
            sys.stdout.write(new.decode(errors="replace"))
            sys.stdout.flush()


def _monitor(number: str, output: _Output, stop: StopRequest) -> State | None:
    """The state in which the job ended; None once a signal has ended the monitoring."""
    state, asked, silent = State(""), 0.0, False
    while not stop.requested:
        if time.monotonic() - asked > POLL:
            asked, before = time.monotonic(), state
            try:
                state = state_of(number) or State("COMPLETED")
                silent = False
            except UserError as error:
                # The controller may be started again; the job goes on without it.
                if not silent:
                    print(f"{error.what}; asking again", file=sys.stderr, flush=True)
                silent = True
            output.draw()
            if state.over and state == before:  # a job on its way back to the queue is over for a moment
                return state
            if state != before:
                print(f"job {number}: {state}", flush=True)
        output.draw()
        time.sleep(TICK)
    return None


def _conclude(number: str, state: State, output: Path) -> None:
    """Raises what the job ended with."""
    again = "the same command submits it again and resumes the run"
    if state.name == "COMPLETED" and state.code == DONE:
        return
    if state.name in STOPPED or state.code == RESUMABLE:
        raise Stopped(f"job {number} was stopped: {state}", where=str(output), fix=again)
    signalled = f"signal {state.killed}" if state.killed else f"exit code {state.code}"
    reason = _reason(output, state.code)
    if state.code == USER_ERROR:
        again = "after a correction, the same command submits it again"
    failure = Failure(f"job {number} ended with {signalled} ({state.name}){reason}", where=str(output), fix=again)
    failure.exit_code = state.code if state.code in OWN_CODES else INTERNAL
    raise failure


def _reason(output: Path, code: int) -> str:
    """What the job printed last of its own errors, or what srun says of the tasks that did not end by themselves."""
    lines = output.read_text(errors="replace").splitlines() if output.exists() else []
    own = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    # Tasks that stopped resumably are of an earlier start.
    tasks = [line.removeprefix("srun: error: ") for line in lines if re.match(r"srun: error: .*task", line)]
    killed = [line for line in tasks if not line.endswith(f"exit code {RESUMABLE}")]
    found = own[-1:] if code in OWN_CODES else killed or own[-1:]
    return "".join(f"{mark} {line}" for mark, line in zip(":;;", found, strict=False))
