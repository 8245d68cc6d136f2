"""Runs jobs on this machine: as many at once as there are slots, each in a process with cores or a GPU of its own."""

import dataclasses
import json
import os
import shutil
import signal
import site
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from gpt_jax.errors import DONE, RESUMABLE
from gpt_jax.storage import write_json
from gpt_jax.study.sweep.results import FAILURE, SweepResults
from gpt_jax.study.sweep.sweep import Job
from gpt_jax.study.sweep.worker import order_of

LOCATION = Path(__file__).resolve().parents[3]  # of the package: a checkout, or site-packages


@dataclasses.dataclass(frozen=True)
class Slot:
    """Where a worker runs: cores that it is pinned to, and perhaps one GPU."""

    cores: tuple[int, ...]
    gpu: str = ""

    @property
    def environment(self) -> dict[str, str]:
        return {"CUDA_VISIBLE_DEVICES": self.gpu} if self.gpu else {}


def slots(count: int = 0) -> list[Slot]:
    """``count`` slots, or by default one a GPU, or else one a core: small models gain more from runs side by side than
    from cores that share a step."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
    gpus = _gpus()
    count = min(count or len(gpus) or len(cores), len(cores))
    shares = [tuple(cores[i::count]) for i in range(count)]
    return [Slot(share, gpus[i % len(gpus)] if gpus else "") for i, share in enumerate(shares)]


class Pool:
    """Workers that take jobs from one queue.

    Args:
      together: jobs that a worker may train as one program; 0 = on a GPU as many as is fastest there, elsewhere one.
      show: called with the slot's number and the jobs that it begins, none when it has none left.
      ended: called with a job and its exit code, in the thread of its slot.
    """

    def __init__(
        self,
        results: SweepResults,
        jobs: Sequence[Job],
        places: Sequence[Slot],
        together: int,
        show: Callable[[int, Sequence[Job]], None],
        ended: Callable[[Job, int], None],
    ):
        self.results, self.places, self.together, self.show, self.ended = results, places, together, show, ended
        self.waiting = list(jobs)
        self._choosing = threading.Lock()
        self._common: dict[str, tuple] = {}  # of each job, what those that are trained with it have to share
        self.stopping = False
        self._processes: dict[int, subprocess.Popen] = {}
        self._threads = [threading.Thread(target=self._serve, args=(i,)) for i in range(len(places))]

    @property
    def goodbye(self) -> str:
        return "stopping: every run at hand is being saved"

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def join(self, seconds: float) -> bool:
        """Waits so long; whether all work is over."""
        for thread in self._threads:
            thread.join(seconds / len(self._threads))
        return not any(thread.is_alive() for thread in self._threads)

    def stop(self) -> None:
        """Asks the workers to save what they have and leave; again, for one that had not begun when it was asked."""
        self.stopping = True
        for process in list(self._processes.values()):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)

    def _serve(self, number: int) -> None:
        """A slot's worker is started again where it died, with the next job."""
        process = None
        while not self.stopping and (jobs := self._next(self.places[number])):
            if process is None or process.poll() is not None:
                process = self._processes[number] = _start(self.places[number])
            self.show(number, jobs)
            for job, (code, error) in zip(jobs, self._order(process, jobs), strict=True):
                note_failure(self.results.directory(job.id), code, error)
                self.ended(job, code)
        self.show(number, [])
        if process is not None:
            process.communicate()  # its input ends, and so does it

    def _next(self, place: Slot) -> list[Job]:
        """What a slot trains next: a job and, where runs may be trained together, a fair part of those like it."""
        with self._choosing:
            chosen = self.waiting[:1]
            if self.waiting and (self.together > 1 or not self.together and place.gpu):
                chosen = self._alike(chosen[0])
            for job in chosen:
                self.waiting.remove(job)
        return chosen

    def _alike(self, job: Job) -> list[Job]:
        from gpt_jax.study.sweep import population

        if not self._common:
            for other in self.waiting:
                stands = population.stands_at(self.results.directory(other.id))
                self._common[other.id] = population.shared(other.config), other.until, stands
        mine = self._common[job.id]
        if not mine[0]:
            return [job]
        share = -(-list(self._common.values()).count(mine) // len(self.places))
        alike = [other for other in self.waiting if self._common[other.id] == mine]
        return alike[: self.together or min(population.MOST, share)]

    def _order(self, process: subprocess.Popen, jobs: Sequence[Job]) -> Sequence[tuple[int, str]]:
        orders = []
        for job in jobs:
            directory = self.results.directory(job.id)
            directory.mkdir(parents=True, exist_ok=True)
            orders.append(order_of(job, directory, measure=not self.together))
        try:
            process.stdin.write(json.dumps(orders) + "\n")  # type: ignore[union-attr]
            process.stdin.flush()  # type: ignore[union-attr]
            answer = process.stdout.readline()  # type: ignore[union-attr]
        except BrokenPipeError:
            answer = ""
        if not answer:
            code = process.wait()
            ended = (RESUMABLE, "") if self.stopping else (70, f"its process ended with {code}; see log.txt")
            return [ended] * len(jobs)
        return [(found["code"], found["error"]) for found in json.loads(answer)]


def note_failure(directory: Path, code: int, error: str) -> None:
    """What the sweep is to know of a run that came to no good end."""
    if code not in (DONE, RESUMABLE):
        write_json(directory / FAILURE, {"code": code, "error": error})


def python_module(name: str) -> list[str]:
    """The command that runs a module of this package, whatever files lie in the folder that the user stands in: a relative
    path of a configuration is one of that folder, an import is not."""
    return [sys.executable, "-P", "-m", name]


def python_path() -> str:
    """PYTHONPATH that makes another process import the package that this one runs."""
    installed = [Path(folder).resolve() for folder in (*site.getsitepackages(), site.getusersitepackages())]
    # A folder of PYTHONPATH comes before the standard library, which site-packages may hold old backports of.
    own = [] if LOCATION in installed else [str(LOCATION)]
    return os.pathsep.join(own + [folder for folder in os.environ.get("PYTHONPATH", "").split(os.pathsep) if folder])


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
    """Names of the GPUs, by NVIDIA's own tool: asking JAX would take them."""
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return [gpu for gpu in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if gpu.strip()]
    if not shutil.which("nvidia-smi"):
        return []
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True).stdout.splitlines()
    return [str(i) for i, _ in enumerate(line for line in listed if line.startswith("GPU"))]
