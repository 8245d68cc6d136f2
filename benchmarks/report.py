"""Rounds of measurements, what they were taken on, and where they are kept."""

import datetime
import importlib.metadata
import json
import os
import platform
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

RESULTS = Path(__file__).resolve().parent / "results"
PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "torch", "transformers")
BUSY = 0.7  # programs running, on average over the minute before
Figure = TypeVar("Figure")
PAUSE = 0.3  # seconds between two workers: thread pools spin for a while after their last work


def interleave(measures: Mapping[str, Callable[[], Figure]], rounds: int) -> dict[str, list[Figure]]:
    """What each contestant measured in each round, e.g. seconds. They take turns, in an order that reverses each round."""
    times: dict[str, list[Figure]] = {name: [] for name in measures}
    for k in range(rounds):
        for name in list(measures)[:: 1 if k % 2 == 0 else -1]:
            time.sleep(PAUSE)
            times[name].append(measures[name]())
    return times


def summary(times: list[float]) -> dict[str, Any]:
    quartiles = statistics.quantiles(times, n=4) if len(times) > 1 else times * 3
    return {"median": statistics.median(times), "quartiles": [quartiles[0], quartiles[2]], "rounds": times}


def ratio(ours: list[float], theirs: list[float]) -> dict[str, Any]:
    """How many times faster ours is: the median over rounds of the ratio within a round."""
    return summary([b / a for a, b in zip(ours, theirs, strict=True)])


def machine() -> dict[str, Any]:
    """What the measurement is taken on; warns where others are at work there, which is not fair to anyone."""
    load = os.getloadavg()[0]
    if load > BUSY:
        print(f"the load is {load:.1f}: other programs are running, and the figures will say little", flush=True)
    return {
        "cpu": _cpu(),
        "gpu": gpu(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "load": round(load, 2),
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


def gpu() -> str:
    """The first GPU's name, by NVIDIA's own tool: asking JAX would take it; empty where there is none."""
    if not shutil.which("nvidia-smi"):
        return ""
    asked = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    return (subprocess.run(asked, capture_output=True, text=True).stdout.splitlines() or [""])[0].strip()


def write(name: str, values: dict[str, Any]) -> Path:
    """Keeps results/<name>.json, or <name>_gpu.json where a GPU was measured, in place of the run before."""
    RESULTS.mkdir(exist_ok=True)
    name = f"{name}_gpu" if values["machine"]["gpu"] else name
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    return path


def read(name: str) -> dict[str, Any]:
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
