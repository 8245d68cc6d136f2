"""A process that trains one run after another, so that they share its start-up and what it has compiled.

    python -m gpt_jax.study.worker

reads orders (``order_of``) as lines of JSON and answers each with a line {"code": exit code, "error": text}. It stops when
its input ends: the run at hand is saved, as at SIGTERM.
"""

import json
import os
import queue
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import TextIO

from gpt_jax import backend
from gpt_jax.errors import DONE, INTERNAL, RESUMABLE, Failure, UserError
from gpt_jax.study.sweep import Job

LOG = "log.txt"
PATIENCE = 120.0  # seconds


def main() -> None:
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    backend.tune()
    orders: queue.SimpleQueue = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(sys.stdin, orders), daemon=True).start()
    while (order := orders.get()) is not None:
        code, error = train(order)
        answers.write(json.dumps({"code": code, "error": error}) + "\n")
        if code == RESUMABLE:
            break


def order_of(job: Job, directory: Path) -> dict:
    return {"id": job.id, "config": job.config.to_dict(), "workdir": str(directory.resolve()), "until": job.until}


def _listen(lines: TextIO, orders: queue.SimpleQueue) -> None:
    for line in lines:
        orders.put(json.loads(line))
    # Whoever gave the orders is gone.
    orders.put(None)
    os.kill(os.getpid(), signal.SIGTERM)


def train(order: dict) -> tuple[int, str]:
    """Trains what an order (``order_of`` a job) says, its output in log.txt, and returns the exit code and the error."""
    from gpt_jax.config import Config
    from gpt_jax.train import loop

    workdir = Path(order["workdir"])
    with open(workdir / LOG, "a", encoding="utf-8") as log:
        sys.stdout.flush()
        # The compiler writes to the descriptors, past sys.stdout.
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        try:
            _wait_until_free(workdir)
            loop.train(Config.from_dict(order["config"]), workdir, order["until"])
            return DONE, ""
        except Failure as failure:
            print(failure, file=sys.stderr)
            return failure.exit_code, str(failure)
        except Exception as error:
            traceback.print_exc()
            return INTERNAL, f"{type(error).__name__}: {error}"
        finally:
            sys.stdout.flush()
            sys.stderr.flush()


def _wait_until_free(workdir: Path) -> None:
    """A worker whose sweep was killed saves its run before it leaves; the next sweep may come earlier."""
    from gpt_jax.train.lock import WorkdirLock

    deadline = time.monotonic() + PATIENCE
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
