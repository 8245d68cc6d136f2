"""A SLURM cluster of one or more nodes on this machine, for tests; its programs have to be installed, and it is started by
root. All its files lie in one folder."""

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
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CryptoType=crypto/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
KillWait=20
SchedulerParameters=sched_interval=1,batch_sched_delay=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
{nodes}
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1 GraceTime=60
PartitionName=urgent Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=10
"""
NODE = "NodeName={name} NodeAddr=127.0.0.1 NodeHostname={host} Port={port} CPUs=2 State=UNKNOWN"


def available() -> bool:
    return os.geteuid() == 0 and all(shutil.which(name) or Path("/usr/sbin", name).exists() for name in PROGRAMS)


@contextlib.contextmanager
def running(folder: Path, nodes: int = 1) -> Iterator[dict[str, str]]:
    """The cluster; yields the environment in which its commands find it. The first node has the name of this machine: JAX
    looks for process 0 there."""
    folder.chmod(0o755)
    host = socket.gethostname()
    names = [host, *(f"{host}-{number}" for number in range(2, nodes + 1))]
    for name in ("state", *(f"spool-{name}" for name in names)):
        (folder / name).mkdir()
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    config = folder / "slurm.conf"
    lines = "\n".join(NODE.format(name=name, host=host, port=_port()) for name in names)
    config.write_text(CONFIG.format(folder=folder, host=host, controller=_port(), nodes=lines))
    environment = {**os.environ, "SLURM_CONF": str(config), "PATH": os.environ["PATH"] + ":/usr/sbin"}
    munge = ["munged", "--foreground", f"--key-file={key}", f"--socket={folder / 'munge.socket'}", "--force"]
    munge += [f"--{name}-file={folder / f'munge.{name}'}" for name in ("log", "pid", "seed")]
    node_daemons = [["slurmd", "-D", "-N", name, "-f", str(config)] for name in names]
    commands = (munge, ["slurmctld", "-D", "-f", str(config)], *node_daemons)
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
        asked = ["sinfo", "--noheader", "--Node", "--partition=all", "--format=%T"]
        answer = subprocess.run(asked, env=environment, capture_output=True, text=True)
        if set(answer.stdout.split()) == {"idle"}:
            return
        time.sleep(1)
    raise RuntimeError((folder / "daemons.log").read_text()[-3000:])


def _port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]
