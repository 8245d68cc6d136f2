"""A SLURM cluster of one node on this machine, for tests; its programs have to be installed, and it is started by root."""

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel")
CONFIG = """
ClusterName=here
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CryptoType=crypto/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
KillWait=20
SchedulerParameters=sched_interval=1,batch_sched_delay=0
NodeName=n0 NodeAddr=127.0.0.1 NodeHostname={host} Port={node} CPUs=2 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def available() -> bool:
    return os.geteuid() == 0 and all(shutil.which(name) or Path("/usr/sbin", name).exists() for name in PROGRAMS)


@contextlib.contextmanager
def running(folder: Path) -> Iterator[dict[str, str]]:
    """The cluster; yields the environment in which its commands find it."""
    folder.chmod(0o755)
    for name in ("state", "spool"):
        (folder / name).mkdir()
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    host = socket.gethostname()
    config = folder / "slurm.conf"
    config.write_text(CONFIG.format(folder=folder, host=host, controller=_port(), node=_port()))
    environment = {**os.environ, "SLURM_CONF": str(config), "PATH": os.environ["PATH"] + ":/usr/sbin"}
    munge = ["munged", "--foreground", f"--key-file={key}", f"--socket={folder / 'munge.socket'}", "--force"]
    munge += [f"--{name}-file={folder / f'munge.{name}'}" for name in ("log", "pid", "seed")]
    commands = (munge, ["slurmctld", "-D", "-f", str(config)], ["slurmd", "-D", "-N", "n0", "-f", str(config)])
    started = []
    with open(folder / "daemons.log", "wb") as log:
        try:
            for command in commands:
                started.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
                time.sleep(1)
            _wait_until_idle(environment, folder)
            yield environment
        finally:
            for process in reversed(started):
                process.terminate()
                process.wait(60)


def _wait_until_idle(environment: dict[str, str], folder: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        answer = subprocess.run(["sinfo", "-h", "-o", "%T"], env=environment, capture_output=True, text=True)
        if answer.stdout.strip() == "idle":
            return
        time.sleep(1)
    raise RuntimeError((folder / "daemons.log").read_text()[-3000:])


def _port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]
