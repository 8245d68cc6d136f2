"""A policy on one and on eight devices: the same run, in float64."""

import json
import os
import subprocess
import sys

import pytest

from tests import xla
from tests.train import tiny


def run(folder, workdir, devices, *flags):
    environment = os.environ | {"XLA_FLAGS": xla.flags(devices), "JAX_ENABLE_X64": "1", "PYTHONPATH": str(tiny.ROOT)}
    command = tiny.command(
        tiny.write_text(folder), folder / workdir, model__dtype="float64", model__context=24, train__batch=16
    )
    done = subprocess.run(
        [sys.executable, "launch.py", *command, *flags], cwd=tiny.ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    lines = map(json.loads, (folder / workdir / "metrics.jsonl").read_text().splitlines())
    return [{k: v for k, v in line.items() if k != "time" and not k.startswith("speed/")} for line in lines]


@pytest.mark.slow
def test_devices_do_not_matter(tmp_path):
    run(tmp_path, "q", 1, "--config.train.steps=2")
    flags = [
        "--config.data.source=arithmetic(count=60, valid=12)",
        "--config.tune.objective=ppo(kl=0.1)",
        "--config.tune.reward=((1.0, 'ended'), (0.5, 'exact'))",
        f"--config.tune.start={tmp_path / 'q'}",
        "--config.tune.samples=4",
        "--config.tune.updates=2",
        "--config.train.steps=8",
        "--config.train.eval_every=4",
        "--config.train.save_every=4",
        "--config.optim.lr=1e-2",
        "--config.optim.warmup=0",
        "--config.sample.max_new_tokens=10",
    ]
    one, eight = (run(tmp_path, f"on {devices}", devices, *flags) for devices in (1, 8))
    assert len(one) == len(eight) == 11
    for own, other in zip(one, eight, strict=True):
        assert own == pytest.approx(other, rel=1e-9, abs=1e-11), own["step"]
