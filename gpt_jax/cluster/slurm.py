"""SLURM: the options a user gives for a job, the script of a job, submitting it, and the answers of SLURM's commands."""

import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from gpt_jax.cluster.program import python_path
from gpt_jax.errors import RESUMABLE, UserError
from gpt_jax.storage import write_atomically

SAVING = 120  # seconds before its time limit at which SLURM signals a job to save
SHORT_LIFE, SHORT_LIVES = 600, 3  # a job that stops within so many seconds is requeued so many times
# What a job's script or its monitor has to know; the letters are short forms.
OURS = frozenset({"array", "chdir", "error", "output", "parsable", "test-only", "wait", "wrap", *"aDeoW"})


def options_of(text: str) -> list[str]:
    """The words of ``--slurm``, options for sbatch such as "--nodes=2 --gpus-per-node=8".

    Raises:
      UserError: a quotation is not closed, a word is no option, or an option is one that the command itself gives.
    """
    where = f"--slurm={text}"
    allowed = 'options of sbatch, as --slurm="--nodes=2 --gpus-per-node=8 --time=8:00:00 --partition=gpu"'
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise UserError(f"the options for sbatch cannot be read: {error}", where=where, allowed=allowed) from None
    for before, word in zip(["", *words], words, strict=False):
        name, _, value = word.lstrip("-").partition("=")
        if not word.startswith("-") or not name:
            # The value of the option before it, perhaps; sbatch would read another as the name of a script.
            if not before.startswith("-") or "=" in before:
                raise UserError(f"{word!r} is not an option of sbatch", where=where, allowed=allowed)
        elif (name if word.startswith("--") else name[:1]) in OURS:
            raise UserError(f"{word} is given to sbatch by this command", where=where, fix="leave it out")
        elif name == "signal" and "B:" in value:
            raise UserError(
                f"{word} signals the script, which is not what trains", where=where, fix=f"--signal=TERM@{SAVING}"
            )
    return words


def script(name: str, output: str, command: Sequence[str]) -> str:
    """What sbatch is given: srun runs ``command`` in every task, in the folder of this process. If the tasks stop resumably,
    because their time is almost over or other jobs come first, the job is put into the queue again; not if SLURM ends it
    itself, which the shell is signalled about, unlike the tasks' warning.

    Args:
      name: of the job.
      output: file of what it prints, in which SLURM replaces %j and the like.
    """
    here, path, shown = (shlex.quote(str(part)) for part in (Path.cwd(), python_path(), output))
    return f"""#!/bin/sh
#SBATCH --job-name={shlex.quote(name)}
#SBATCH --output={shown}
#SBATCH --open-mode=append
#SBATCH --signal=TERM@{SAVING}
#SBATCH --requeue
#SBATCH --ntasks-per-node=1
export PYTHONPATH={path}
[ -z "$SLURM_CPUS_PER_TASK" ] || export SRUN_CPUS_PER_TASK="$SLURM_CPUS_PER_TASK"
cd {here} || exit
job=$SLURM_JOB_ID
# The last task of an array has the number of the whole array.
[ -z "$SLURM_ARRAY_TASK_ID" ] || job=${{SLURM_ARRAY_JOB_ID}}_$SLURM_ARRAY_TASK_ID
begun=$(date +%s)
trap 'ended=yes' TERM
srun {shlex.join(command)}
code=$?
if [ $code -eq {RESUMABLE} ] && [ -z "$ended" ] &&
  {{ [ $(($(date +%s) - begun)) -gt {SHORT_LIFE} ] || [ "${{SLURM_RESTART_COUNT:-0}}" -lt {SHORT_LIVES} ]; }}; then
  scontrol requeue "$job"
fi
exit $code
"""


def check() -> None:
    """Raises:
    UserError: there is no SLURM on this machine.
    """
    if shutil.which("sbatch") is None:
        raise _missing("sbatch")


def submit(path: Path, text: str, options: Sequence[str]) -> str:
    """Writes a script and submits it; the number of the job.

    Raises:
      UserError: there is no sbatch here, or it refuses.
    """
    write_atomically(path, text)
    return ask("sbatch", "--parsable", *options, str(path)).strip().split(";")[0]


def ask(*words: str) -> str:
    """What a command of SLURM prints.

    Raises:
      UserError: there is no such command on this machine, or it refuses.
    """
    try:
        answer = subprocess.run(words, capture_output=True, text=True)
    except OSError:
        raise _missing(words[0]) from None
    if answer.returncode:
        said = (answer.stderr.strip() or answer.stdout.strip()).splitlines() or [f"exit code {answer.returncode}"]
        line = next((line for line in said if "error: " in line or "unrecognized" in line), said[-1])
        raise UserError(
            f"{words[0]} refuses: {line.partition('error: ')[2] or line}",
            where=shlex.join(words),
            fix='sinfo lists partitions and their limits; --slurm="…" gives sbatch\'s options' * (words[0] == "sbatch"),
        )
    return answer.stdout


def escaped(path: Path) -> str:
    """A path in which SLURM replaces nothing."""
    return str(path.resolve()).replace("%", "%%")


def _missing(command: str) -> UserError:
    return UserError(
        f"there is no {command} on this machine",
        where="--backend=slurm",
        fix="give the command on a login node of the cluster; --backend=local trains here",
    )
