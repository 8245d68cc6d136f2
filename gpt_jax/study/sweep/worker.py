"""A process that trains one run after another, so that they share its start-up and its compiled programs.

    python -m gpt_jax.study.sweep.worker

reads lines of JSON, each a list of orders (``order_of``), and answers with lists of {"code": exit code, "error": text}. It
exits when its input ends and saves the runs in progress, as on SIGTERM.
"""

import json
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

from gpt_jax import backend, terminal
from gpt_jax.errors import DONE, INTERNAL, RESUMABLE, Stopped, UserError
from gpt_jax.storage import as_failure
from gpt_jax.study.sweep import starts
from gpt_jax.study.sweep.sweep import Job

LOG = "log.txt"
LOCK_TIMEOUT = 120.0  # seconds


def main() -> None:
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    terminal.guard()
    backend.tune()
    queued: queue.SimpleQueue = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(sys.stdin, queued), daemon=True).start()
    while (orders := queued.get()) is not None:
        outcomes = train(orders)
        answers.write(json.dumps([{"code": code, "error": error} for code, error in outcomes]) + "\n")
        if any(code == RESUMABLE for code, _ in outcomes):
            break


def order_of(job: Job, directory: Path, measure: bool = False) -> dict:
    """A job as JSON. ``measure``: whether several orders in one line are trained at the fastest number at once, or all."""
    where = {"workdir": str(directory.resolve()), "until": job.until}
    config = starts.located(job.config.to_dict(), directory.resolve().parent)
    return {"id": job.id, "config": config, "measure": measure, **where}


def _listen(lines: TextIO, queued: queue.SimpleQueue) -> None:
    for line in lines:
        queued.put(json.loads(line))
    # The process that gave the orders has exited.
    queued.put(None)
    os.kill(os.getpid(), signal.SIGTERM)


def train(orders: Sequence[dict]) -> list[tuple[int, str]]:
    """Trains the jobs of orders (``order_of``), as one program if there are several; returns exit codes and errors.

    Output goes to the log.txt of the first; the log.txt of the others names it.
    """
    workdirs = [Path(order["workdir"]) for order in orders]
    try:
        log = open(workdirs[0] / LOG, "a", encoding="utf-8")
    except OSError as error:
        return [_outcome(error)] * len(orders)
    with log:
        sys.stdout.flush()
        # The compiler writes to the descriptors, past sys.stdout.
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        for workdir in workdirs[1:]:
            with open(workdir / LOG, "a", encoding="utf-8") as other:
                print(f"trained together with {workdirs[0].name}; see its log.txt", file=other)
        try:
            return [_outcome(failure) for failure in _train(orders, workdirs)]
        except Exception as failure:
            return [_outcome(failure)] * len(orders)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()


def _train(orders: Sequence[dict], workdirs: Sequence[Path]) -> list[Exception | None]:
    """What each run raised, or None."""
    from gpt_jax.config import Config

    for workdir in workdirs:
        _wait_until_free(workdir)
    jobs = [(Config.from_dict(order["config"]), workdir) for order, workdir in zip(orders, workdirs, strict=True)]
    until = orders[0]["until"]
    if len(jobs) == 1:
        return [_train_one(jobs[0], until)]

    from gpt_jax.study.sweep import population

    size = len(jobs)
    if orders[0]["measure"]:
        size, measured = population.best_size(jobs)
        print(f"{measured}; {size} at once")
    raised: dict[Path, Exception | None] = {workdir: Stopped("stopped before it started") for workdir in workdirs}
    parts = [jobs[first : first + size] for first in range(0, len(jobs), size)]
    while parts:
        part = parts.pop(0)
        found = population.train(part, until) if len(part) > 1 else [_train_one(part[0], until)]
        for job, failure in zip(part, found, strict=True):
            if isinstance(failure, population.StepMismatch):
                parts.append([job])
            else:
                raised[job[1]] = failure
        if any(isinstance(failure, Stopped) for failure in found):
            break
    return [raised[workdir] for workdir in workdirs]


def _train_one(job: tuple[Any, Path], until: int) -> Exception | None:
    from gpt_jax.train import loop

    config, workdir = job
    try:
        loop.train(config, workdir, until)
    except Exception as failure:
        return failure
    return None


def _outcome(failure: Exception | None) -> tuple[int, str]:
    """Exit code and error text; prints the error."""
    if failure is None:
        return DONE, ""
    if known := as_failure(failure):
        print(known, file=sys.stderr)
        return known.exit_code, str(known)
    traceback.print_exception(failure)
    return INTERNAL, f"{type(failure).__name__}: {failure}"


def _wait_until_free(workdir: Path) -> None:
    """Waits for the lock of a run: the worker of a killed sweep may still be saving it."""
    from gpt_jax.train.checkpoint.lock import WorkdirLock

    deadline = time.monotonic() + LOCK_TIMEOUT
    while True:
        try:
            with WorkdirLock(workdir):
                return
        except UserError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what an interrupt means
    main()
