"""Submits the jobs of a sweep as one array of SLURM tasks, and monitors it.

A task trains one job in a process of its own: ``python -m gpt_jax.study.sweep.slurm ORDERS`` reads the line of ORDERS
with the task's number. SLURM has the state of the array; the directory of a run has the state of the run.
"""

import dataclasses
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from gpt_jax import backend, terminal
from gpt_jax.errors import DONE, INTERNAL, RESUMABLE, UserError
from gpt_jax.storage import make_folder, read_json, write_atomically, write_json
from gpt_jax.study.sweep import worker
from gpt_jax.study.sweep.local import note_failure, python_module, python_path
from gpt_jax.study.sweep.results import SweepResults, steps_of
from gpt_jax.study.sweep.sweep import Job

SCRIPT, ORDERS, ARRAY, OUTPUT = "sweep.sbatch", "orders.jsonl", "array.json", "task-%a.txt"
WARNING = 120  # seconds before its time limit at which SLURM signals a task to save
POLL = 5.0  # seconds between two queries of the queue


@dataclasses.dataclass(frozen=True)
class Submitted:
    """An array in the queue: its number, and the names of its jobs by task."""

    array: str
    jobs: tuple[str, ...]


class Array:
    """The counterpart of ``local.Pool``. An array still in the queue from an earlier start is monitored again.

    Args:
      count: tasks that may run at once; 0 = as many as SLURM allows.
      options: for sbatch, such as "--partition=gpu --gres=gpu:1 --time=8:00:00".
      bars: progress bars; tasks beyond them run without one.
      on_start, on_end: as for ``Pool``.
    """

    def __init__(
        self,
        results: SweepResults,
        jobs: Sequence[Job],
        count: int,
        options: str,
        bars: int,
        on_start: Callable[[int, Sequence[Job]], None],
        on_end: Callable[[Job, int], None],
    ):
        self.results, self.on_start, self.on_end = results, on_start, on_end
        self.jobs = {job.id: job for job in jobs}
        self._count, self._options = count, options
        self._bars: list[str] = [""] * bars  # id of the run that each shows
        self._asked = 0.0
        self.stopping = False
        self.submitted = Submitted("", ())

    def start(self) -> None:
        """Submits the jobs, unless they are in the queue.

        Raises:
          UserError: sbatch is missing, or refuses.
        """
        directory = self.results.workdir / "slurm"
        make_folder(directory)
        kept = read_json(directory / ARRAY, missing={})
        if kept and _tasks(kept["array"]):
            self.submitted = Submitted(kept["array"], tuple(kept["jobs"]))
            return
        orders = [worker.order_of(job, self.results.directory(job.id)) for job in self.jobs.values()]
        write_atomically(directory / ORDERS, "".join(json.dumps(order) + "\n" for order in orders))
        write_atomically(directory / SCRIPT, script(directory.resolve(), self.results.experiment))
        limit = f"%{self._count}" if self._count else ""
        words = ["--parsable", f"--array=0-{len(orders) - 1}{limit}", *shlex.split(self._options)]
        array = _ask("sbatch", *words, str(directory / SCRIPT)).strip().split(";")[0]
        self.submitted = Submitted(array, tuple(self.jobs))
        write_json(directory / ARRAY, dataclasses.asdict(self.submitted))

    def join(self, seconds: float) -> bool:
        """Waits for some seconds and returns whether no task is left in the queue, or monitoring was stopped."""
        time.sleep(seconds)
        if self.stopping:
            return True
        if time.monotonic() - self._asked < POLL:
            return False
        self._asked = time.monotonic()
        tasks = _tasks(self.submitted.array)
        running = [self.submitted.jobs[task] for task, state in tasks.items() if state == "RUNNING"]
        waiting = {self.submitted.jobs[task] for task in tasks}
        for id in [id for id in self.jobs if id in self.submitted.jobs and id not in waiting]:
            job, status = self.jobs.pop(id), self.results.status(id)
            paused = 0 < job.until <= steps_of(self.results.directory(id))
            self.on_end(job, DONE if paused else {"done": DONE, "failed": INTERNAL}.get(status, RESUMABLE))
        self._assign_bars(running)
        return not tasks

    @property
    def stop_message(self) -> str:
        array = self.submitted.array
        return f"array {array} keeps running; the same command monitors it again, scancel {array} cancels it"

    def stop(self) -> None:
        """Stops monitoring; the array keeps running."""
        self.stopping = True

    def _assign_bars(self, running: Sequence[str]) -> None:
        for bar, id in enumerate(self._bars):
            if id and id not in running:
                self._bars[bar] = ""
                self.on_start(bar, [])
        for id in running:
            if id not in self._bars and "" in self._bars and id in self.jobs:
                bar = self._bars.index("")
                self._bars[bar] = id
                self.on_start(bar, [self.jobs[id]])


def script(directory: Path, name: str) -> str:
    """What sbatch is given. The task itself takes the place of the shell, so that it gets SLURM's signals."""
    here, path, orders = (shlex.quote(str(part)) for part in (Path.cwd(), python_path(), directory / ORDERS))
    output = shlex.quote(f"{str(directory).replace('%', '%%')}/{OUTPUT}")  # in which SLURM replaces %a
    return (
        f"#!/bin/sh\n#SBATCH --job-name={shlex.quote(Path(name).stem)}\n#SBATCH --output={output}\n"
        f"#SBATCH --signal=B:TERM@{WARNING}\n#SBATCH --open-mode=append\n"
        f"export PYTHONPATH={path}\n"
        f"cd {here} && exec {shlex.join(python_module('gpt_jax.study.sweep.slurm'))} {orders}\n"
    )


def _tasks(array: str) -> dict[int, str]:
    """Task number -> state, of the tasks that are waiting or running."""
    found = {}
    for line in _ask("squeue", "--noheader", "--array", "--me", "--format=%F %K %T").splitlines():
        number, task, state = line.split()
        if number == array:
            found[int(task)] = state
    return found


def _ask(*words: str) -> str:
    try:
        answer = subprocess.run(words, capture_output=True, text=True)
    except FileNotFoundError:
        raise UserError(
            f"there is no {words[0]} on this machine", where="--backend=slurm", fix="--backend=local trains here"
        ) from None
    if answer.returncode:
        said = (answer.stderr.strip() or answer.stdout.strip()).splitlines()
        raise UserError(f"{words[0]} refuses: {said[-1] if said else answer.returncode}", where=" ".join(words))
    return answer.stdout


def main() -> int:
    """One task of the array."""
    terminal.guard()
    backend.tune()
    with open(sys.argv[1], encoding="utf-8") as file:
        order = json.loads(file.read().splitlines()[int(os.environ["SLURM_ARRAY_TASK_ID"])])
    workdir = Path(order["workdir"])
    make_folder(workdir)
    ((code, error),) = worker.train([order])
    note_failure(workdir, code, error)
    return code


if __name__ == "__main__":
    sys.exit(main())
