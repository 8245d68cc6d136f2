"""environment.json: what a run ran on, one entry per start (the first, and every resumption)."""

import datetime
import os
import platform
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jax

from gpt_jax.errors import StorageError
from gpt_jax.storage import read_json, write_json
from gpt_jax.train.starting.facts import versions

NAME = "environment.json"
_FLAGS = ("jax_enable_x64", "jax_default_prng_impl", "jax_threefry_partitionable", "jax_default_matmul_precision")
_VARIABLES = ("CUDA_VISIBLE_DEVICES", "LIBTPU_INIT_ARGS", "OMP_NUM_THREADS", "SLURM_JOB_ID")
_BEGINNINGS = ("JAX_", "XLA_", "NCCL_")  # of variables that may change numbers, devices or speed


def environment() -> dict[str, Any]:
    """Versions, host, devices, JAX settings, git revision and command line, as JSON values. Starts JAX's backend."""
    devices = jax.devices()
    return {
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "argv": sys.argv,
        "cwd": os.getcwd(),
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "packages": versions(),
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "processes": jax.process_count(),
        "devices": {
            kind: sum(d.device_kind == kind for d in devices) for kind in sorted({d.device_kind for d in devices})
        },
        "jax": {flag: getattr(jax.config, flag) for flag in _FLAGS},
        "variables": {
            name: value
            for name, value in sorted(os.environ.items())
            if name in _VARIABLES or name.startswith(_BEGINNINGS)
        },
        "git": _git(Path(__file__).resolve().parent),
    }


def write(
    workdir: str | Path,
    mesh: Mapping[str, int],
    group_size: int = 1,
    parent: Mapping[str, Any] = MappingProxyType({}),
) -> Path:
    """Appends this start to environment.json, atomically, and returns its path.

    Args:
      mesh: devices along each axis.
      group_size: runs trained as one program, this one included.
      parent: what training started from; empty where that is nothing.

    Raises:
      StorageError: the file is damaged, or the disk refuses.
    """
    path = Path(workdir) / NAME
    history = read_json(path, missing={"starts": []})
    if not isinstance(history, dict) or not isinstance(history.get("starts"), list):
        raise StorageError(f"{NAME} is not a list of starts", where=str(path), fix="remove it")
    start = environment() | {"mesh": dict(mesh), "together": group_size}
    start |= {"parent": dict(parent)} if parent else {}
    return write_json(path, {"starts": [*history["starts"], start]})


def _git(folder: Path) -> dict[str, Any] | None:
    """Revision, and whether files differ from it, of the repository that tracks this package; None where none does."""
    if _run_git(folder, "ls-files", "--error-unmatch", Path(__file__).name) is None:
        return None
    return {
        "revision": _run_git(folder, "rev-parse", "HEAD"),
        "dirty": bool(_run_git(folder, "status", "--porcelain", ":/")),
    }


def _run_git(folder: Path, *args: str) -> str | None:
    """What git answers, or None where it fails or is not installed."""
    command = ["git", "--no-optional-locks", *args]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
