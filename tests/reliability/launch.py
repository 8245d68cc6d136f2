"""What becomes of a launch when one of its processes dies, stops or is asked to stop: the real training command.

    python -m tests.reliability.launch --kills=20 --stops=10 --requests=10

At a random moment one of four processes that have met gets SIGKILL, SIGSTOP or SIGTERM. After SIGKILL the others must end
within 30 s and name it. After SIGSTOP the watchdog must end them, with their stacks in the run directory. After SIGTERM all
must save the same step. Then all are started again, and must end with the bits of a launch that nothing happened to. A
signal that comes when all steps are done can end nothing; it does not count, and comes again in a new launch, earlier.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gpt_jax.mesh.presence import PATIENCE, STILL
from tests.mesh.processes import cpu_environment, free_port
from tests.reliability.kill import ROOT, SETTINGS, differences, records

STEPS = 48
SHORT = {"train.steps": STEPS, "train.save_every": 8, "train.eval_every": 24, "train.eval_batches": 1}
# Seconds that processes wait for each other, and those that the others may take to end.
WAITING = {
    "kill": {"mesh.heartbeat_timeout": 15},
    "stop": {"mesh.heartbeat_timeout": 600, "mesh.step_timeout": 15.0, "mesh.phase_timeout": 60.0},
    "request": {},
}
# A stop in an evaluation or a save shows after 60 s, and who it is takes up to 15 s more where that is the coordinator.
WITHIN = {"kill": 30.0, "stop": 60.0 + STILL + PATIENCE + 15.0, "request": 60.0}
SIGNALS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP, "request": signal.SIGTERM}
RESUMABLE = 75


@dataclass
class Launch:
    """The processes of one start of the command; what each of them says goes into a file."""

    processes: list[subprocess.Popen]
    said: list[Path]

    def ended(self, besides: int | None = None) -> bool:
        return all(p.poll() is not None for rank, p in enumerate(self.processes) if rank != besides)

    def wait(self, seconds: float, besides: int | None = None) -> bool:
        """Whether all have ended in time, but for one."""
        limit = time.monotonic() + seconds
        while not self.ended(besides):
            if time.monotonic() > limit:
                return False
            time.sleep(0.05)
        return True

    def end(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait()


class Bench:
    """The command in so many processes, and its data, in a directory of their own."""

    def __init__(self, directory: Path, count: int):
        self.directory, self.count = directory, count
        self.text = directory / "text.txt"
        words = random.Random(0).choices(["the ", "cat ", "sat ", "on ", "a ", "mat.\n", "dog ", "ran "], k=20_000)
        self.text.write_text("".join(words))

    def start(self, workdir: Path, what: str = "request") -> Launch:
        read = {"data.source": f"text(path='{self.text}')", "data.cache": str(self.directory / "data")}
        settings = SETTINGS | SHORT | read | WAITING[what]
        overrides = [f"--config.{key}={value}" for key, value in settings.items()]
        command = [sys.executable, "launch.py", "train", "--config=configs/base.py", f"--workdir={workdir}", *overrides]
        joined = {"JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{free_port()}", "JAX_NUM_PROCESSES": str(self.count)}
        cached = {"JAX_COMPILATION_CACHE_DIR": str(self.directory / "compiled")}
        processes, said = [], []
        for rank in range(self.count):
            said.append(self.directory / f"{workdir.name}-{rank}.log")
            with said[-1].open("wb") as log:
                environment = cpu_environment(1) | cached | joined | {"JAX_PROCESS_ID": str(rank)}
                processes.append(
                    subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT)
                )
        return Launch(processes, said)

    def undisturbed(self, workdir: Path) -> float:
        """Runs the command to its end; the seconds it took."""
        begun = time.monotonic()
        launch = self.start(workdir)
        try:
            in_time = launch.wait(600)
            codes = [process.poll() for process in launch.processes]
        finally:
            launch.end()
        if not in_time or any(codes):
            tails = "\n".join(path.read_text(errors="replace")[-2000:] for path in launch.said)
            raise AssertionError(f"{workdir.name} ended with {codes}\n{tails}")
        return time.monotonic() - begun


def too_late(launch: Launch, rank: int, workdir: Path) -> bool:
    """Whether the others have done all steps, for which they needed process ``rank``, so that its signal came after them."""
    codes = [process.poll() for other, process in enumerate(launch.processes) if other != rank]
    return not any(code is None or code for code in codes) and last_step(workdir) == STEPS


def last_step(workdir: Path) -> int:
    return max((record["step"] for record in records(workdir)), default=0)


def faults(launch: Launch, what: str, rank: int, workdir: Path) -> Iterator[str]:
    """What is wrong with how the launch ended after its process ``rank`` got a signal."""
    codes = [process.poll() for other, process in enumerate(launch.processes) if other != rank]
    if None in codes:
        yield f"others still run after {WITHIN[what]:.0f} s"
        return
    if what == "kill":
        if 0 in codes:
            yield f"exit codes {codes}"
        if (code := launch.processes[rank].poll()) != -signal.SIGKILL:
            yield f"process {rank} had ended with {code}"
        said = [path.read_text(errors="replace") for other, path in enumerate(launch.said) if other != rank]
        if not any(f"{who}{rank}" in text.lower() for text in said for who in ("process ", "task ", "task:")):
            yield f"nobody names process {rank}"
        return
    if any(code != RESUMABLE for code in codes):
        yield f"exit codes {codes}"
    if what == "stop":
        for other in set(range(len(launch.processes))) - {rank}:
            path = workdir / "stacks" / f"process-{other}.txt"
            if not path.exists() or "File " not in path.read_text():
                yield f"no stacks of process {other}"


def trial(bench: Bench, what: str, number: int, length: float, choice: random.Random, reference: Path) -> list[str]:
    """A launch that something happens to, and a second one to its end; what is wrong with either."""
    workdir, rank = bench.directory / f"{what}-{number}", choice.randrange(bench.count)
    latest = 0.9 * length
    while (found := struck(bench, what, rank, workdir, choice.uniform(0.0, latest))) is None:
        print(f"{what:>8} process {rank} when all was done: again, earlier", flush=True)
        shutil.rmtree(workdir)
        latest /= 2
    said, found = found
    bench.undisturbed(workdir)
    found += differences(workdir, reference, STEPS)
    print(f"{what:>8} process {rank} {said}: {'; '.join(found) or 'as it should be'}", flush=True)
    return found


def struck(bench: Bench, what: str, rank: int, workdir: Path, after: float) -> tuple[str, list[str]] | None:
    """A launch that something happens to after so many seconds: when, and what is wrong; None where that was too late."""
    launch = bench.start(workdir, what)
    try:
        after = _wait_for_moment(launch, what, workdir, after)
        step, begun = last_step(workdir), time.monotonic()
        launch.processes[rank].send_signal(SIGNALS[what])
        launch.wait(WITHIN[what], None if what == "request" else rank)
        said = f"after {after:5.1f} s, step {step:>3}; ended in {time.monotonic() - begun:4.1f} s"
        return None if too_late(launch, rank, workdir) else (said, list(faults(launch, what, rank, workdir)))
    finally:
        launch.end()


def _wait_for_moment(launch: Launch, what: str, workdir: Path, after: float) -> float:
    """Waits so many seconds, and until the processes have met; for stops and requests, until there is something to save."""
    begun = time.monotonic()
    while not launch.ended():
        took = time.monotonic() - begun
        if took >= after and (workdir.exists() if what == "kill" else records(workdir)):
            return took
        time.sleep(0.05)
    return time.monotonic() - begun


def campaign(directory: Path, counts: dict[str, int], seed: int, processes: int) -> dict[str, list[list[str]]]:
    """Trials of each kind; what is wrong with each."""
    bench, choice = Bench(directory, processes), random.Random(seed)
    reference = directory / "whole"
    bench.undisturbed(reference)
    length = bench.undisturbed(directory / "again")  # with compiled programs
    unequal = list(differences(directory / "again", reference, STEPS))
    if unequal:
        raise AssertionError(f"two undisturbed launches differ: {unequal}")
    print(f"undisturbed: {length:.1f} s", flush=True)
    return {
        what: [trial(bench, what, number, length, choice, reference) for number in range(count)]
        for what, count in counts.items()
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--stops", type=int, default=10)
    parser.add_argument("--requests", type=int, default=10)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0, help="of moments and processes")
    flags = parser.parse_args()
    os.environ["JAX_PLATFORMS"] = "cpu"
    with tempfile.TemporaryDirectory() as directory:
        counts = {"kill": flags.kills, "stop": flags.stops, "request": flags.requests}
        found = campaign(Path(directory), counts, flags.seed, flags.processes)
    for what, trials in found.items():
        print(f"{what}: {sum(not faults for faults in trials)} of {len(trials)} as it should be")
    return int(any(faults for trials in found.values() for faults in trials))


if __name__ == "__main__":
    sys.exit(main())
