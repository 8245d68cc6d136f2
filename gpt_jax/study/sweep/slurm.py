"""Submits the jobs of a sweep as one array of SLURM tasks, and monitors it.

A task trains one job in a process of its own: ``python -m gpt_jax.study.sweep.slurm ORDERS`` reads the line of ORDERS
with the task's number. SLURM has the state of the array; the directory of a run has the state of the run.
"""

import dataclasses
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from gpt_jax import backend, terminal
from gpt_jax.cluster import slurm
from gpt_jax.cluster.program import python_module
from gpt_jax.errors import DONE, INTERNAL, RESUMABLE
from gpt_jax.storage import make_folder, read_json, write_atomically, write_json
from gpt_jax.study.sweep import worker
from gpt_jax.study.sweep.local import note_failure
from gpt_jax.study.sweep.results import SweepResults, steps_of
from gpt_jax.study.sweep.sweep import Job

SCRIPT, ORDERS, ARRAY, OUTPUT = "sweep.sbatch", "orders.jsonl", "array.json", "task-%a.txt"
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
        self._count, self._options = count, slurm.options_of(options)
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
        limit = f"%{self._count}" if self._count else ""
        alone = ("--nodes=1", "--ntasks=1")  # a run of a sweep is one process
        command = [*alone, *python_module("gpt_jax.study.sweep.slurm"), str((directory / ORDERS).resolve())]
        text = slurm.script(Path(self.results.experiment).stem, f"{slurm.escaped(directory)}/{OUTPUT}", command)
        array = slurm.submit(directory / SCRIPT, text, [f"--array=0-{len(orders) - 1}{limit}", *self._options])
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


def _tasks(array: str) -> dict[int, str]:
    """Task number -> state, of the tasks that are waiting or running."""
    found = {}
    for line in slurm.ask("squeue", "--noheader", "--array", "--me", "--format=%F %K %T").splitlines():
        number, task, state = line.split()
        if number == array:
            found[int(task)] = state
    return found


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
