"""A run that earlier code began, stored beside this file, resumes as if nothing had changed."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from gpt_jax.config import Config
from gpt_jax.train.record.metrics import read
from gpt_jax.train.run import open_to_read

ROOT = Path(__file__).resolve().parents[3]
STORED = Path(__file__).parent / "stored_run"  # stopped after 4 of 8 steps
CLOSE = 1e-5  # relative, on a machine that rounds in another way


def train(workdir: Path) -> list[dict]:
    """Trains the stored run's configuration in ``workdir``; returns the losses and gradient norms of every record."""
    values = json.loads((STORED / "config.json").read_text())
    knobs = {f"{section}.{key}": value for section, rows in values.items() for key, value in rows.items()}
    flags = [f"--config.{knob}={value}" for knob, value in knobs.items() if knob != "optim.groups"]
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    command = [sys.executable, "launch.py", "train", "--config=base", f"--workdir={workdir}", *flags]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    timed = ("time", "speed/")
    return [{k: v for k, v in record.items() if not k.startswith(timed)} for record in read(workdir)]


def state(workdir: Path) -> dict:
    config = Config.from_json((workdir / "config.json").read_text())
    return open_to_read(config, workdir).load(8)[1]


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("runs")
    shutil.copytree(STORED, folder / "resumed")
    return folder / "resumed", folder / "whole"


def test_it_resumes_to_the_bit(runs):
    """Where this machine repeats the stored steps bit for bit, it has to continue them so too."""
    resumed, whole = (train(workdir) for workdir in runs)
    stored = [{k: v for k, v in record.items() if not k.startswith(("time", "speed/"))} for record in read(STORED)]
    assert resumed[: len(stored)] == stored and [r["step"] for r in resumed] == [r["step"] for r in whole]
    if whole[: len(stored)] == stored:
        assert resumed == whole
        jax.tree.map(np.testing.assert_array_equal, *map(state, runs))
    for ours, theirs in zip(resumed, whole, strict=True):
        for name, value in theirs.items():
            assert ours[name] == pytest.approx(value, rel=CLOSE), (ours["step"], name)
