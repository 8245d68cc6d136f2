"""Trainings and a sweep on a real SLURM of two nodes, which runs on this machine while they do.

    python -m tests.reliability.slurm

Needs root, and Debian's slurm-wlm and munge. A line for each scenario: what happened, and the exit code of the command;
below it what is wrong, if anything is. Jobs compute on CPUs, in a process on each node, joined over gloo.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

from gpt_jax.errors import DONE, INTERNAL, NON_FINITE, RESUMABLE, USER_ERROR
from tests.cluster import daemons
from tests.mesh.processes import cpu_environment
from tests.reliability.kill import ROOT, SETTINGS, differences, records

SHORT = {"train.eval_every": 100, "train.eval_batches": 1}
# Steps of a fifth of a second: SLURM looks at time limits twice a minute.
SLOW = {"model.width": 128, "model.layers": 4, "model.context": 128, "train.batch": 16}
NODES = 2
COMPARED, ROUNDING = 50, 1e-5  # first steps, and how far apart their losses may be, relative, in float32
LIMIT = 600  # seconds that a command may take
STUDY = """
from gpt_jax.configs import base
from gpt_jax.study.sweep import Sweep

def sweep():
    c = base.get_config()
    c.model.update(layers=1, width=16, heads=2, context=16)
    c.data.update(source="markov()", tokenizer="none")
    c.train.update(steps=4000, batch=8, eval_every=4000, save_every=1000, eval_batches=2, log_every=20, tensorboard=False)
    c.optim.warmup = 5
    c.sample.prompts = ()
    return Sweep(c, {"plain": {}, "fast": {"optim.lr": 1e-2}}, seeds=(0, 1))
"""
Answer = tuple[int, str]  # exit code and what was printed
Changes = Mapping[str, object]  # knob -> value


class Bench:
    """The cluster's environment, and a folder for runs and data."""

    def __init__(self, folder: Path, environment: dict[str, str]):
        self.folder = folder
        mine = {name: environment[name] for name in ("SLURM_CONF", "PATH")}
        self.environment = cpu_environment(1) | mine | {"JAX_COMPILATION_CACHE_DIR": str(folder / "compiled")}
        (folder / "text.txt").write_text("the cat sat on a mat.\n a dog ran to the cat\n" * 2000)

    def words(
        self, workdir: Path, slurm: str = f"--nodes={NODES} --time=20", changes: Changes = MappingProxyType({})
    ) -> list[str]:
        read = {"data.source": f"text(path='{self.folder / 'text.txt'}')", "data.cache": str(self.folder / "data")}
        settings = SETTINGS | SHORT | read | dict(changes)
        overrides = [f"--config.{name}={value}" for name, value in settings.items()]
        cluster = ["--backend=slurm", f"--slurm={slurm}"] if slurm else []
        return ["train", "--config=configs/base.py", f"--workdir={workdir}", *cluster, *overrides]

    def start(self, words: list[str]) -> subprocess.Popen:
        command = [sys.executable, "launch.py", *words]
        out = subprocess.PIPE
        return subprocess.Popen(
            command, cwd=ROOT, env=self.environment, stdout=out, stderr=subprocess.STDOUT, text=True
        )

    def run(self, words: list[str]) -> Answer:
        return ended(self.start(words))

    def ask(self, *words: str) -> str:
        done = subprocess.run(words, env=self.environment, capture_output=True, text=True)
        if done.returncode:
            raise AssertionError(f"{words}: {done.stderr}")
        return done.stdout

    def disturbed(
        self, workdir: Path, disturb: Callable[[str], object], changes: Changes = MappingProxyType({})
    ) -> Answer:
        """A training of which something is done to its job, by number, once there is something to lose."""
        process = self.start(self.words(workdir, changes=changes))
        wait(lambda: len(records(workdir)) > 30 or process.poll() is not None)
        if process.poll() is None:
            disturb(json.loads((workdir / "slurm" / "job.json").read_text())["job"])
        return ended(process)


def ended(process: subprocess.Popen) -> Answer:
    try:
        said, _ = process.communicate(timeout=LIMIT)
    except subprocess.TimeoutExpired:
        process.kill()
        said, _ = process.communicate()
        return -1, f"{said}\nnot over after {LIMIT} s"
    return process.returncode, said


def variables(path: Path) -> set[bytes]:
    try:
        return set(path.read_bytes().split(b"\0"))
    except OSError:
        return set()  # it has ended


def starts_of(workdir: Path) -> int:
    return len(json.loads((workdir / "environment.json").read_text())["starts"])


def wait(happened: Callable[[], bool]) -> None:
    limit = time.monotonic() + LIMIT
    while not happened():
        if time.monotonic() > limit:
            raise AssertionError(f"waited {LIMIT} s for nothing")
        time.sleep(0.1)


class Scenarios:
    """Each prints what happened and returns what is wrong."""

    def __init__(self, bench: Bench):
        self.bench = bench
        self.whole = bench.folder / "whole"

    def two_nodes(self) -> Iterator[str]:
        code, said = self.bench.run(self.bench.words(self.whole))
        yield from expected(code, DONE, said)
        alone = self.bench.folder / "alone"
        yield from expected(self.bench.run(self.bench.words(alone, slurm=""))[0], DONE, "one process alone")
        start = json.loads((self.whole / "environment.json").read_text())["starts"][-1]
        pairs = [
            (record["train/loss"], other["train/loss"])
            for record, other in zip(records(self.whole), records(alone), strict=True)
            if "train/loss" in record
        ][:COMPARED]
        worst = max(abs(a - b) / b for a, b in pairs)
        show("training on two nodes", code, f"losses of {len(pairs)} steps within {worst:.0e} of one process's")
        if len(pairs) != COMPARED or not worst <= ROUNDING:
            yield f"{len(pairs)} losses, {worst} apart"
        if start["processes"] != NODES:
            yield f"{start['processes']} processes"

    def array(self) -> Iterator[str]:
        (self.bench.folder / "study.py").write_text(STUDY)
        sweep, study = self.bench.folder / "sweep", self.bench.folder / "study.py"
        words = ["sweep", f"--config={study}", f"--workdir={sweep}", "--backend=slurm", "--slurm=--time=10"]
        process = self.bench.start(words)
        record = sweep / "slurm" / "array.json"
        wait(lambda: record.exists() or process.poll() is not None)
        array = json.loads(record.read_text())
        # The last task, whose own number is that of the whole array.
        last = sweep / "runs" / array["jobs"][-1]
        wait(lambda: len(records(last)) > 3 or process.poll() is not None)
        self.bench.ask("scancel", "--signal=TERM", f"{array['array']}_{len(array['jobs']) - 1}")
        code, said = ended(process)
        runs = [sweep / "runs" / name for name in array["jobs"]]
        done = sum(json.loads((run / "summary.json").read_text())["status"] == "done" for run in runs)
        starts = [starts_of(run) for run in runs]
        show("sweep as an array, a task stopped", code, f"{done} of 4 runs done, starts {starts}")
        yield from expected(code, DONE, said)
        if done != 4 or starts != [1, 1, 1, 2]:
            yield said

    def preempted(self) -> Iterator[str]:
        urgent = ("sbatch", "--partition=urgent", f"--nodes={NODES}", "--output=/dev/null", "--wrap=sleep 2")
        yield from self._again("preempted by a job of a higher partition", lambda number: self.bench.ask(*urgent))

    def requeued(self) -> Iterator[str]:
        yield from self._again("scontrol requeue", lambda number: self.bench.ask("scontrol", "requeue", number))

    def out_of_time(self) -> Iterator[str]:
        def shorten(number: str) -> None:
            # Its warning is due at once, and comes when SLURM looks at limits the next time: twice a minute.
            self.bench.ask("scontrol", "update", f"JobId={number}", "TimeLimit=2")
            wait(lambda: "Restarts=1 " in self.bench.ask("scontrol", "--oneliner", "show", "job", number))
            self.bench.ask("scontrol", "update", f"JobId={number}", "TimeLimit=20")

        yield from self._again("near its time limit", shorten, slow=True)

    def _again(self, what: str, disturb: Callable[[str], object], slow: bool = False) -> Iterator[str]:
        workdir, changes, reference = self.bench.folder / what.replace(" ", "-"), SLOW if slow else {}, self.whole
        if slow:
            reference = self.bench.folder / "slow"
            yield from expected(self.bench.run(self.bench.words(reference, changes=changes))[0], DONE, "undisturbed")
        code, said = self.bench.disturbed(workdir, disturb, changes)
        starts = starts_of(workdir)
        unequal = list(differences(workdir, reference))
        show(what, code, f"{starts} starts, then {'other bits' if unequal else 'the bits of an undisturbed job'}")
        yield from [*expected(code, DONE, said), *unequal]
        if starts < 2:
            yield f"it was not started again:\n{said}"

    def fails(self) -> Iterator[str]:
        workdir = self.bench.folder / "fails"
        code, said = self.bench.run(self.bench.words(workdir, changes={"optim.lr": 1e38}))
        show("loss not finite", code, last_line(said, "error"))
        yield from expected(code, NON_FINITE, said)
        code, said = self.bench.run(self.bench.words(self.bench.folder / "unfit", changes={"mesh.data": 3}))
        show("mesh of three devices on two", code, last_line(said, "error"))
        yield from expected(code, USER_ERROR, said)

    def killed(self) -> Iterator[str]:
        workdir = self.bench.folder / "killed"

        def kill_one(number: str) -> None:
            mine = {f"SLURM_JOB_ID={number}".encode(), b"SLURM_PROCID=1"}
            (pid,) = [path.parent.name for path in Path("/proc").glob("[0-9]*/environ") if mine <= variables(path)]
            os.kill(int(pid), signal.SIGKILL)

        code, said = self.bench.disturbed(workdir, kill_one)
        show("a process killed", code, last_line(said, "error"))
        yield from expected(code, INTERNAL, said)
        if "task 1: Killed" not in said or "this is a bug" in said:
            yield said
        code, said = self.bench.run(self.bench.words(workdir))
        unequal = list(differences(workdir, self.whole))
        show("the same command again", code, "other bits" if unequal else "the bits of an undisturbed job")
        yield from [*expected(code, DONE, said), *unequal]

    def cancelled(self) -> Iterator[str]:
        workdir = self.bench.folder / "cancelled"
        code, said = self.bench.disturbed(workdir, lambda number: self.bench.ask("scancel", number))
        saved = max((int(path.name) for path in (workdir / "checkpoints").iterdir() if path.name.isdigit()), default=0)
        show("scancel", code, f"saved at step {saved}; {last_line(said, 'job')}")
        yield from expected(code, RESUMABLE, said)
        if not saved:
            yield said

    def rejected(self) -> Iterator[str]:
        code, said = self.bench.run(self.bench.words(self.bench.folder / "rejected", slurm="--partition=none"))
        show("a partition that there is not", code, last_line(said, "error"))
        yield from expected(code, USER_ERROR, said)


NAMES = ["two_nodes", "array", "preempted", "requeued", "out_of_time", "fails", "killed", "cancelled", "rejected"]


def show(what: str, code: int, happened: str) -> None:
    print(f"{what}: {happened} (exit code {code})", flush=True)


def expected(code: int, wanted: int, said: str) -> list[str]:
    return [] if code == wanted else [f"exit code {code} and not {wanted}:\n{said}"]


def last_line(said: str, start: str) -> str:
    return next((line for line in reversed(said.splitlines()) if line.startswith(start)), said[-200:])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--only", choices=NAMES, action="append", help="one scenario, after two_nodes, which others need"
    )
    flags = parser.parse_args()
    if not daemons.available():
        print("needs root and Debian's slurm-wlm and munge: apt-get install slurm-wlm munge", file=sys.stderr)
        return USER_ERROR
    os.environ["JAX_PLATFORMS"] = "cpu"
    chosen = [name for name in NAMES if not flags.only or name in ("two_nodes", *flags.only)]
    wrong = 0
    with tempfile.TemporaryDirectory() as folder, daemons.running(Path(folder), NODES) as environment:
        (Path(folder) / "runs").mkdir()
        scenarios = Scenarios(Bench(Path(folder) / "runs", environment))
        for name in chosen:
            faults = list(getattr(scenarios, name)())
            wrong += bool(faults)
            print("".join(f"  WRONG {fault}\n" for fault in faults), end="", flush=True)
    print(f"{len(chosen) - wrong} of {len(chosen)} scenarios went as they should")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
