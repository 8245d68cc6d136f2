"""Runs jobs on this machine: as many at once as there are slots, each in a process with cores or a GPU of its own."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from gpt_jax.cluster.program import python_module, python_path
from gpt_jax.errors import DONE, RESUMABLE, Failure
from gpt_jax.storage import make_folder, write_json
from gpt_jax.study.sweep.results import FAILURE, SweepResults
from gpt_jax.study.sweep.sweep import Job
from gpt_jax.study.sweep.worker import order_of


@dataclasses.dataclass(frozen=True)
class Slot:
    """The resources of a worker: the cores it is pinned to, and at most one GPU."""

    cores: tuple[int, ...]
    gpu: str = ""

    @property
    def environment(self) -> dict[str, str]:
        return {"CUDA_VISIBLE_DEVICES": self.gpu} if self.gpu else {}


def slots(count: int = 0) -> list[Slot]:
    """``count`` slots; by default one for each GPU, or for each core where there is none: small models gain more from
    parallel runs than from several cores a step."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
    gpus = _gpus()
    count = min(count or len(gpus) or len(cores), len(cores))
    shares = [tuple(cores[i::count]) for i in range(count)]
    return [Slot(share, gpus[i % len(gpus)] if gpus else "") for i, share in enumerate(shares)]


class Pool:
    """Workers, one a slot, that take jobs from one queue.

    Args:
      together: jobs that a worker trains as one program; 0 = on a GPU the fastest number, measured, elsewhere one.
      on_start: called with the number of a slot and the jobs it starts; with none when no job is left for it.
      on_end: called with a job and its exit code, in the thread of its slot.
    """

    def __init__(
        self,
        results: SweepResults,
        jobs: Sequence[Job],
        slots: Sequence[Slot],
        together: int,
        on_start: Callable[[int, Sequence[Job]], None],
        on_end: Callable[[Job, int], None],
    ):
        self.results, self.slots, self.together = results, slots, together
        self.on_start, self.on_end = on_start, on_end
        self.waiting = list(jobs)
        self._queue_lock = threading.Lock()
        self._common: dict[str, tuple] = {}  # of each job, what jobs trained as one program have in common
        self.stopping = False
        self.failure: Failure | None = None  # of a slot, which ends them all
        self._processes: dict[int, subprocess.Popen] = {}
        self._threads = [threading.Thread(target=self._run_slot, args=(i,)) for i in range(len(slots))]

    @property
    def stop_message(self) -> str:
        return "stopping: saving every run in progress"

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def join(self, seconds: float) -> bool:
        """Waits for some seconds and returns whether all jobs have ended.

        Raises:
          StorageError: the directory of a run cannot be written.
        """
        for thread in self._threads:
            thread.join(seconds / len(self._threads))
        ended = not any(thread.is_alive() for thread in self._threads)
        if ended and self.failure is not None:
            raise self.failure
        return ended

    def stop(self) -> None:
        """Asks the workers to save their runs and exit. Call it again for a worker that was still starting."""
        self.stopping = True
        for process in list(self._processes.values()):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)

    def _run_slot(self, number: int) -> None:
        try:
            self._work(number)
        except Failure as failure:
            self.failure, self.stopping = failure, True

    def _work(self, number: int) -> None:
        """Trains jobs in a slot's worker; a worker that died is started again for the next job."""
        process = None
        while not self.stopping and (jobs := self._next(self.slots[number])):
            if process is None or process.poll() is not None:
                process = self._processes[number] = _start(self.slots[number])
            self.on_start(number, jobs)
            for job, (code, error) in zip(jobs, self._train(process, jobs), strict=True):
                note_failure(self.results.directory(job.id), code, error)
                self.on_end(job, code)
        self.on_start(number, [])
        if process is not None:
            process.communicate()  # the worker exits when its input ends

    def _next(self, slot: Slot) -> list[Job]:
        """The jobs a slot trains next: one, or its share of those that can be trained as one program with it."""
        with self._queue_lock:
            chosen = self.waiting[:1]
            if self.waiting and (self.together > 1 or not self.together and slot.gpu):
                chosen = self._compatible(chosen[0])
            for job in chosen:
                self.waiting.remove(job)
        return chosen

    def _compatible(self, job: Job) -> list[Job]:
        from gpt_jax.study.sweep import population

        if not self._common:
            for other in self.waiting:
                step = population.newest_step(self.results.directory(other.id))
                self._common[other.id] = population.common_settings(other.config), other.until, step
        mine = self._common[job.id]
        if not mine[0]:
            return [job]
        share = -(-list(self._common.values()).count(mine) // len(self.slots))
        compatible = [other for other in self.waiting if self._common[other.id] == mine]
        return compatible[: self.together or min(population.MAX_RUNS, share)]

    def _train(self, process: subprocess.Popen, jobs: Sequence[Job]) -> Sequence[tuple[int, str]]:
        orders = []
        for job in jobs:
            directory = self.results.directory(job.id)
            make_folder(directory)
            orders.append(order_of(job, directory, measure=not self.together))
        try:
            process.stdin.write(json.dumps(orders) + "\n")  # type: ignore[union-attr]
            process.stdin.flush()  # type: ignore[union-attr]
            answer = process.stdout.readline()  # type: ignore[union-attr]
        except BrokenPipeError:
            answer = ""
        if not answer:
            code = process.wait()
            outcome = (RESUMABLE, "") if self.stopping else (70, f"the worker exited with {code}; see log.txt")
            return [outcome] * len(jobs)
        return [(found["code"], found["error"]) for found in json.loads(answer)]


def note_failure(directory: Path, code: int, error: str) -> None:
    """Writes failure.json for a run that ended with an error."""
    if code not in (DONE, RESUMABLE):
        write_json(directory / FAILURE, {"code": code, "error": error})


def _start(slot: Slot) -> subprocess.Popen:
    pin = ["taskset", "-c", ",".join(map(str, slot.cores))] if shutil.which("taskset") else []
    return subprocess.Popen(
        [*pin, *python_module("gpt_jax.study.sweep.worker")],
        env={**os.environ, **slot.environment, "PYTHONPATH": python_path()},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # an interrupt at the terminal reaches the parent alone
    )


def _gpus() -> list[str]:
    """Names of the GPUs, by nvidia-smi: asking JAX would reserve their memory."""
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return [gpu for gpu in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if gpu.strip()]
    if not shutil.which("nvidia-smi"):
        return []
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True).stdout.splitlines()
    return [str(i) for i, _ in enumerate(line for line in listed if line.startswith("GPU"))]
