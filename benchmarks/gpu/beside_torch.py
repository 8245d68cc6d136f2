"""Our training step and PyTorch's, of the same GPT-2 124M, in turns on one GPU."""

import importlib.util
import subprocess
import sys
from typing import Any

from benchmarks import report
from benchmarks.gpu.pieces import Parts, Task
from benchmarks.shapes import SHAPES
from benchmarks.worker import Worker

ROUNDS, STEPS = 5, 8


def turns(task: Task) -> Parts:
    shape, dtype = ("small", "float32") if task.toy else ("gpt2-124M-1024", "bfloat16")
    lacking = _lacking(task.toy)
    if lacking:
        yield "torch", lambda: {"error": lacking}
        return
    ours: list[Any] = []
    peer = Worker("torch", "torch_worker")
    for mode in ("eager",) if task.toy else ("eager", "compile"):
        yield mode, lambda mode=mode: _against(ours, peer, shape, mode, dtype)
    peer.close()


def _lacking(toy: bool) -> str:
    """Why there is no peer, in words; empty where there is one."""
    for name in ("torch", "transformers"):
        if not importlib.util.find_spec(name):
            return f"{name} is not installed"
    # In another process: torch's CUDA libraries and JAX's need not be of one version.
    ask = [sys.executable, "-c", "import sys, torch; sys.exit(not torch.cuda.is_available())"]
    return "" if toy or subprocess.run(ask).returncode == 0 else "torch with CUDA cannot be imported"


def _against(ours: list[Any], peer: Worker, shape: str, mode: str, dtype: str) -> dict[str, Any]:
    """Both steps in turns; what ``mode`` takes to be ready is not among them."""
    from benchmarks import jax_worker
    from benchmarks.gpu import steps

    if not ours:
        config = jax_worker.config_of(SHAPES[shape], scan=SHAPES[shape].layers, dtype=dtype)
        ours.append(steps.Running(config))
        ours[0].run(steps.WARM)
    first = peer("build", shape=shape, mode=mode, dtype=dtype)
    peer("run", mode=mode, count=3)
    turns = {"ours": lambda: ours[0].run(STEPS), mode: lambda: peer("run", mode=mode, count=STEPS)}
    times = report.interleave(turns, ROUNDS)
    return {
        "ours_ms": 1e3 * report.summary(times["ours"])["median"],
        "torch_ms": 1e3 * report.summary(times[mode])["median"],
        "times_as_fast": report.ratio(times["ours"], times[mode])["median"],
        "first_call_s": first,
        "batch": SHAPES[shape].batch,
        "rounds": [times["ours"], times[mode]],
    }
