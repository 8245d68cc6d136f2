"""SLURM's commands for tests without SLURM: jobs run at once on this machine, one process each.

``install`` writes them into a folder for the front of PATH. The folder has the state of each job, in N.json.
"""

import json
import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

NAMES = ("sbatch", "srun", "scontrol")
ROOT = Path(__file__).resolve().parents[2]


def install(folder: Path) -> None:
    folder.mkdir()
    for name in NAMES:
        program = folder / name
        program.write_text(
            f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m tests.cluster.commands {name} "$@"\n'
        )
        program.chmod(0o755)
    # What trains is found as by a real srun: not through the variable above.
    (folder / "srun").write_text('#!/bin/sh\nwhile [ "${1#--}" != "$1" ]; do shift; done\nexec "$@"\n')


def write_state(folder: Path, number: str, **changes: object) -> None:
    path = folder / f"{number}.json"
    kept = json.loads(path.read_text()) if path.exists() else {"JobState": "PENDING", "Restarts": 0, "ExitCode": "0:0"}
    fresh = folder / f"{number}.{os.getpid()}"
    fresh.write_text(json.dumps(kept | changes))
    fresh.replace(path)


def sbatch(folder: Path, words: list[str]) -> int:
    number = str(1 + len(list(folder.glob("*.json"))))
    write_state(folder, number)
    (folder / f"{number}.words").write_text("\n".join(words))
    job = [sys.executable, "-m", "tests.cluster.commands", "job", str(folder), number, words[-1]]
    quiet = subprocess.DEVNULL
    subprocess.Popen(job, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True)
    print(number)
    return 0


def job(folder: Path, number: str, script: str) -> None:
    (line,) = re.findall("^#SBATCH (--output=.*)$", Path(script).read_text(), re.MULTILINE)
    output = shlex.split(line)[0].partition("=")[2].replace("%j", number).replace("%%", "%")
    again, code, starts = folder / f"{number}.requeue", 0, 0
    while starts == 0 or again.exists():
        again.unlink(missing_ok=True)
        write_state(folder, number, JobState="RUNNING", Restarts=starts)
        environment = os.environ | {"SLURM_JOB_ID": number, "SLURM_RESTART_COUNT": str(starts)}
        with open(output, "a") as file:
            code = subprocess.run(["sh", script], env=environment, stdout=file, stderr=file).returncode
        starts += 1
    write_state(folder, number, JobState="FAILED" if code else "COMPLETED", ExitCode=f"{code}:0")


def scontrol(folder: Path, words: list[str]) -> int:
    path = folder / f"{words[-1]}.json"
    if not path.exists():
        print("slurm_load_jobs error: Invalid job id specified", file=sys.stderr)
        return 1
    if words[0] == "requeue":
        (folder / f"{words[-1]}.requeue").touch()
    else:
        print(" ".join(f"{name}={value}" for name, value in json.loads(path.read_text()).items()))
    return 0


def over(folder: Path, number: str, seconds: float = 60) -> dict:
    """The state of a job once it has ended."""
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        state = json.loads((folder / f"{number}.json").read_text())
        if state["JobState"] not in ("PENDING", "RUNNING"):
            return state
        time.sleep(0.05)
    raise TimeoutError(state)


if __name__ == "__main__":
    name, *words = sys.argv[1:]
    if name == "job":
        job(Path(words[0]), words[1], words[2])
    else:
        here = next(Path(part) for part in os.environ["PATH"].split(os.pathsep) if Path(part, name).exists())
        sys.exit({"sbatch": sbatch, "scontrol": scontrol}[name](here, words))
