"""One piece of the GPU suite, in this process: ``python -m benchmarks.gpu.worker MODULE:FUNCTION ANSWERS SCRATCH [toy]``.

Each part's figures are a line of JSON in ANSWERS and a line on the terminal the moment they are there; a part that fails
says why, and the next one goes on.
"""

import gc
import importlib
import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.gpu.pieces import Task
from gpt_jax import backend
from gpt_jax.errors import UserError


def main() -> None:
    target, answers, scratch, *toy = sys.argv[1:]
    backend.tune()  # as launch.py does, before anything uses JAX
    terminal = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is kept out of the report
    module, function = target.split(":")
    with Path(answers).open("a", encoding="utf-8") as file:
        for label, measure in getattr(importlib.import_module(module), function)(Task(bool(toy), Path(scratch))):
            found = _measured(measure)
            print(json.dumps({label: found}), file=file, flush=True)
            print(f"  {label}: {summary(found)}", file=terminal, flush=True)
            _forget()


def _measured(measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    start = time.perf_counter()
    try:
        found = measure()
    except UserError as refusal:
        found = {"error": f"refused: {refusal.what}"}
    except Exception as error:  # whatever it is belongs into the report, and the other parts go on
        traceback.print_exc()
        text = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        lacking = isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in text or "out of memory" in text.lower()
        found = {"error": f"out of memory: {text}" if lacking else text}
    return {**found, "seconds": round(time.perf_counter() - start, 2)}


QUIET = {"device", "context", "parameters", "skipped", "lower_s", "new", "steps", "numbers"}


def summary(found: dict[str, Any]) -> str:
    """The figures as a line; lists, and what is the same in most lines, stay in the file."""
    return ", ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in found.items()
        if name not in QUIET and not isinstance(value, list | dict)
    )


def _forget() -> None:
    """Frees a part's programs and arrays for the next one."""
    if "jax" in sys.modules:
        sys.modules["jax"].clear_caches()
    gc.collect()


if __name__ == "__main__":
    main()
