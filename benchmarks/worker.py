"""A framework in a process of its own that measures on command: one JSON request per line in, one answer per line out.

The parent lets the workers take turns, so that they share the machine's drifts and never its cores.
"""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


class Worker:
    """The parent's end of ``python -m benchmarks.<module>``.

    Args:
      environment: variables of the process besides the parent's.
    """

    def __init__(self, name: str, module: str, environment: Mapping[str, str] = MappingProxyType({})):
        self.name = name
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        # JAX would keep most of a GPU's memory from the other workers.
        alone = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
        command = [sys.executable, "-m", f"benchmarks.{module}"]
        self._process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **alone, **environment}, **pipes)
        self._to, self._from = self._process.stdin, self._process.stdout

    def __call__(self, command: str, **arguments: Any) -> Any:
        """What the worker answers.

        Raises:
          RuntimeError: it failed or died; the text is its own.
        """
        try:
            self._to.write(json.dumps({"command": command, "arguments": arguments}) + "\n")
            self._to.flush()
        except BrokenPipeError:
            pass  # it has ended, which the empty answer says as well
        line = self._from.readline()
        if not line:
            raise RuntimeError(f"{self.name} ended with exit code {self._process.wait()} during {command!r}")
        answer = json.loads(line)
        if "error" in answer:
            raise RuntimeError(f"{self.name}: {answer['error']}")
        return answer["value"]

    def close(self) -> None:
        with contextlib.suppress(BrokenPipeError):
            self._to.close()
        self._process.wait()


def serve(commands: dict[str, Callable]) -> None:
    """The worker's loop. What libraries print goes to the terminal, not into the answers."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = {"value": commands[request["command"]](**request["arguments"])}
        except Exception as error:  # whatever it is belongs into the report, and the other workers go on
            answer = {"error": f"{type(error).__name__}: {' '.join(str(error).split())[-500:]}"}
        print(json.dumps(answer), file=answers, flush=True)


def seconds(run: Callable[[], object], at_least: float = 0.2) -> float:
    """Seconds of one call of ``run``, which must wait for its own result: mean over as many as fill ``at_least``."""
    run()
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < at_least:
        run()
        count += 1
    return (time.perf_counter() - start) / count
