"""Kills the real training command at random moments of its life and compares what it ends with, bit for bit.

    python -m tests.reliability.kill --kills=20
    python -m tests.reliability.kill --kills=10 --run=policy     # one that learns from what it writes

A reference run goes through undisturbed, twice (with and without compiled programs to reuse). Then runs are killed with
SIGKILL at moments uniform over the length of such a life (imports, compilation, steps, saves, evaluation, exit) and
started again with the same command until they end by themselves; a fresh run follows until enough kills have happened.
Kills after the last save happen too, but do not count.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import jax
import numpy as np

from gpt_jax.train.checkpoint import manifest
from gpt_jax.train.checkpoint.checkpoints import Checkpoints
from tests import xla

ROOT = Path(__file__).resolve().parents[2]
STEPS, SAVE_EVERY = 200, 20
SETTINGS = {
    "model.layers": 2,
    "model.width": 32,
    "model.heads": 2,
    "model.context": 32,
    "data.tokenizer": "bytes",
    "train.steps": STEPS,
    "train.batch": 8,
    "train.save_every": SAVE_EVERY,
    "train.eval_every": 50,
    "train.eval_batches": 4,
    "train.log_every": 1,
    "train.tensorboard": False,
    "sample.max_new_tokens": 8,
}
POLICY = {
    "data.source": "arithmetic(count=400, valid=40, digits=1)",
    "tune.objective": "ppo(target=0.5)",
    "tune.reward": '((1.0, "ended"), (0.5, "exact"))',
    "tune.samples": 4,
    "tune.updates": 4,
    "tune.epochs": 2,
    "train.eval_every": 40,
    "optim.warmup": 0,
    "sample.temperature": 1.0,
}
RUNS: dict[str, dict] = {"corpus": {}, "policy": POLICY}


@dataclass
class Kill:
    """One kill: seconds into the life, and what was there afterwards."""

    after: float
    step: int  # last step in metrics.jsonl
    saved: int  # newest checkpoint

    @property
    def counts(self) -> bool:
        """Whether there was work left to lose: a kill after the last save tests nothing but the exit."""
        return self.saved < STEPS


@dataclass
class Result:
    """A run that was killed until it ended, and what differs from the reference; empty = identical to the last bit."""

    kills: list[Kill] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)


class Bench:
    """The command, its data and its caches, in a directory of their own; a policy begins at a short run's end."""

    def __init__(self, directory: Path, run: str = "corpus"):
        self.directory, self.run = directory, run
        self.text = directory / "text.txt"
        words = random.Random(0).choices(["the ", "cat ", "sat ", "on ", "a ", "mat.\n", "dog ", "ran "], k=20_000)
        self.text.write_text("".join(words))

        if RUNS[run]:
            self.run = "corpus"
            self.live(directory / "begun", 1200)
            self.run = run

    def start(self, workdir: Path) -> subprocess.Popen:
        settings = SETTINGS | {"data.source": f"text(path='{self.text}')", "data.cache": str(self.directory / "data")}
        if RUNS[self.run]:
            settings |= RUNS[self.run] | {"tune.start": str(self.directory / "begun")}
        overrides = [f"--config.{key}={value}" for key, value in settings.items()]
        command = [sys.executable, "launch.py", "train", "--config=configs/base.py", f"--workdir={workdir}", *overrides]
        caches = {"JAX_COMPILATION_CACHE_DIR": str(self.directory / "compiled")}
        environment = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": xla.flags()} | caches
        log = open(self.directory / f"{workdir.name}.log", "ab")
        with log:
            return subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )

    def live(self, workdir: Path, limit: float) -> tuple[bool, float]:
        """Runs the command, kills it after ``limit`` seconds; (whether it ended by itself, seconds lived)."""
        begun = time.monotonic()
        process = self.start(workdir)
        try:
            code = process.wait(limit)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            code = process.wait()
        if code not in (0, -signal.SIGKILL):
            log = (self.directory / f"{workdir.name}.log").read_text(errors="replace")
            raise AssertionError(f"exit code {code} in {workdir}:\n{log[-4000:]}")
        return code == 0, time.monotonic() - begun


def records(workdir: Path) -> list[dict]:
    """metrics.jsonl without the names that tell the time; of a killed run, whole lines only."""
    try:
        text = (workdir / "metrics.jsonl").read_text()
    except FileNotFoundError:
        return []
    lines = text.split("\n")[:-1]
    timeless = lambda record: {k: v for k, v in record.items() if k != "time" and not k.startswith("speed/")}
    return [timeless(json.loads(line)) for line in lines]


def arrays(workdir: Path, step: int) -> dict[str, np.ndarray]:
    """Every array of a checkpoint (parameters and optimizer state) by its path."""
    device = jax.sharding.SingleDeviceSharding(jax.devices("cpu")[0])
    listed = manifest.read(workdir / "checkpoints" / str(step)).leaves
    wanted = {path: jax.ShapeDtypeStruct(shape, dtype, sharding=device) for path, shape, dtype in listed}
    _, found, _ = Checkpoints(workdir, keep=1, keep_best=False).restore(wanted, step)
    return {path: np.asarray(leaf) for path, leaf in found.items()}


def differences(workdir: Path, reference: Path, last: int = STEPS) -> Iterator[str]:
    """What two ended runs differ in: their last state bit for bit, each record of each step, damaged checkpoints."""
    found, wanted = arrays(workdir, last), arrays(reference, last)
    if found.keys() != wanted.keys():
        yield f"other arrays: {sorted(found.keys() ^ wanted.keys())}"
    for path in found.keys() & wanted.keys():
        if found[path].dtype != wanted[path].dtype or found[path].tobytes() != wanted[path].tobytes():
            yield f"other bits in {path}"
    steps = [record["step"] for record in records(workdir) if "train/loss" in record]
    if steps != list(range(1, last + 1)):
        yield f"metrics.jsonl does not hold each step once: {len(steps)} records, {len(set(steps))} steps"
    for record, other in zip(records(workdir), records(reference), strict=False):
        if record != other:
            yield f"other record: {record} for {other}"
            break
    if len(records(workdir)) != len(records(reference)):
        yield f"{len(records(workdir))} records for {len(records(reference))}"
    for path in sorted((reference / "samples").glob("rollout-*")):
        own = workdir / "samples" / path.name
        if not own.exists() or own.read_bytes() != path.read_bytes():
            yield f"other samples: {path.name}"
    yield from (f"damaged: {path.name}" for path in (workdir / "checkpoints").glob("corrupt-*"))
    yield from (f"left over: {path.name}" for path in (workdir / "checkpoints").glob("t*-*"))


def killed_until_done(bench: Bench, workdir: Path, kills: int, length: float, choice: random.Random) -> Result:
    """One run, killed up to ``kills`` times at moments uniform over ``length`` s, started again until it ends."""
    result = Result()
    while True:
        counted = sum(kill.counts for kill in result.kills)
        limit = choice.uniform(0, length) if counted < kills else 20 * length
        ended, lived = bench.live(workdir, limit)
        if ended:
            return result
        if limit > length:
            raise AssertionError(f"{workdir} hangs: it was given {limit:.0f} s")
        step = max((record["step"] for record in records(workdir)), default=0)
        saved = max(Checkpoints(workdir, keep=1, keep_best=False).steps(), default=0)
        result.kills.append(Kill(lived, step, saved))
        print(f"{workdir.name:>8} {lived:>10.2f} {step:>10} {saved:>10} {step - saved:>10}", flush=True)


def campaign(directory: Path, kills: int, seed: int, run: str = "corpus") -> list[Result]:
    """Runs until ``kills`` kills have happened; prints a line for each kill and each run."""
    bench, choice = Bench(directory, run), random.Random(seed)
    reference = directory / "whole-0"
    for number in range(2):
        ended, length = bench.live(directory / f"whole-{number}", 1200)
        if not ended:
            raise AssertionError("the undisturbed run did not end in 20 minutes")
        print(f"undisturbed run {number}: {length:.1f} s")
    unequal = list(differences(directory / "whole-1", reference))
    if unequal:
        raise AssertionError(f"two undisturbed runs differ: {unequal}")
    print(f"{'run':>8} {'killed at':>10} {'last step':>10} {'saved':>10} {'lost':>10}")
    results: list[Result] = []
    while (left := kills - sum(kill.counts for result in results for kill in result.kills)) > 0:
        workdir = directory / f"run-{len(results)}"
        result = killed_until_done(bench, workdir, left, length, choice)
        result.differences = list(differences(workdir, reference))
        verdict = "; ".join(result.differences) or "identical"
        print(f"{workdir.name:>8} ended after {len(result.kills)} kills: {verdict}", flush=True)
        results.append(result)
    return results


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--directory", type=Path, help="kept; a temporary one if not given")
    parser.add_argument("--run", choices=tuple(RUNS), default="corpus", help="what is killed")
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        directory = flags.directory or Path(temporary)
        directory.mkdir(parents=True, exist_ok=True)
        results = campaign(directory, flags.kills, flags.seed, flags.run)
    total = sum(kill.counts for result in results for kill in result.kills)
    survived = sum(kill.counts for result in results if not result.differences for kill in result.kills)
    lost = max((kill.step - kill.saved for result in results for kill in result.kills), default=0)
    print(f"{survived} of {total} identical (kills, in {len(results)} runs; at most {lost} steps had to be done again)")
    return 0 if survived == total else 1


if __name__ == "__main__":
    sys.exit(main())
