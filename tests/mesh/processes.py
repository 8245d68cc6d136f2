"""Several JAX processes on this machine, joined over loopback, with a hard limit on their time."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests import xla

ROOT = Path(__file__).resolve().parents[2]
GRACE_SECONDS = 30  # the others get after one has failed: they wait for it in a collective


@dataclass(frozen=True)
class Finished:
    returncode: int
    stdout: str
    stderr: str


def cpu_environment(devices: int) -> dict[str, str]:
    """This environment with ``devices`` virtual CPU devices and no part in a launch of several processes."""
    launchers = ("JAX_COORDINATOR", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID", "SLURM_", "OMPI_")
    env = {name: value for name, value in os.environ.items() if not name.startswith(launchers)}
    return env | {
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": str(ROOT),
        "XLA_FLAGS": xla.flags(devices),
    }


def run_processes(
    argv: Sequence[str],
    folder: Path,
    count: int = 2,
    devices: int = 4,
    seconds: float = 300,
    env: Mapping[str, str] | None = None,
) -> list[Finished]:
    """Runs ``python *argv`` in ``count`` processes of ``devices`` virtual devices each, from the repository's root.

    Args:
      folder: where their output is written, as process0.out, process0.err, ...
      seconds: after which all are killed.
      env: variables beyond those that join them.

    Raises:
      TimeoutError: the limit was reached; the message holds the end of every process's stderr.
    """
    address = f"127.0.0.1:{free_port()}"
    processes = []
    for rank in range(count):
        joined = cpu_environment(devices) | dict(env or {})
        joined |= {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": str(count), "JAX_PROCESS_ID": str(rank)}
        with open(folder / f"process{rank}.out", "w") as out, open(folder / f"process{rank}.err", "w") as err:
            command = [sys.executable, *argv]
            processes.append(
                subprocess.Popen(command, stdout=out, stderr=err, env=joined, cwd=ROOT, start_new_session=True)
            )
    try:
        in_time = _wait(processes, seconds)
    finally:
        for process in processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    texts = [[(folder / f"process{rank}.{end}").read_text() for end in ("out", "err")] for rank in range(count)]
    if not in_time:
        tails = "\n".join(f"process {rank}: {err[-2000:]}" for rank, (_, err) in enumerate(texts))
        raise TimeoutError(f"{count} processes did not end within {seconds} s\n{tails}")
    return [Finished(process.returncode, *text) for process, text in zip(processes, texts, strict=True)]


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def _wait(processes: list[subprocess.Popen], seconds: float) -> bool:
    """Whether all ended, or one failed and the others had their grace, before the limit."""
    limit = time.monotonic() + seconds
    failed_at = None
    while time.monotonic() < limit:
        codes = [process.poll() for process in processes]
        if all(code is not None for code in codes):
            return True
        if failed_at is None and any(code not in (None, 0) for code in codes):
            failed_at = time.monotonic()
        if failed_at is not None and time.monotonic() > failed_at + GRACE_SECONDS:
            return True
        time.sleep(0.1)
    return False
