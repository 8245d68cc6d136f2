"""Seconds from the quickstart command to its first completed step, with nothing cached and with everything cached."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.worker import ROOT

TIMEOUT = 600  # seconds


def measure() -> dict[str, float]:
    """``cold``: the tokenised corpus is there, nothing is compiled. ``warm``: compiled programs are kept, too."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        first_step(place, "corpus", compiled="before")
        return {"cold": first_step(place, "cold", compiled="kept"), "warm": first_step(place, "warm", compiled="kept")}


def first_step(place: Path, run: str, compiled: str) -> float:
    """Runs one step of the quickstart in ``place/run`` and returns when metrics.jsonl held it.

    Raises:
      RuntimeError: the command failed or wrote nothing within ``TIMEOUT``.
    """
    command = [sys.executable, "launch.py", "train", "--config=configs/quickstart.py", f"--workdir={place / run}"]
    command += ["--config.train.steps=1", "--config.train.log_every=1", f"--config.data.cache={place / 'data'}"]
    environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(place / compiled)}
    metrics = place / run / "metrics.jsonl"
    start = time.perf_counter()
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    seen = None
    while seen is None and process.poll() is None and time.perf_counter() - start < TIMEOUT:
        time.sleep(0.02)
        if metrics.exists() and '"train/loss"' in metrics.read_text():
            seen = time.perf_counter() - start
    output, _ = process.communicate(timeout=TIMEOUT)
    if process.returncode or seen is None:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}: {output.decode()[-2000:]}")
    return seen
