"""Sweeps as arrays of a real SLURM."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

import launch
from gpt_jax.storage import read_json
from gpt_jax.study.sweep.results import SweepResults
from tests.cluster import daemons
from tests.study.sweep.test_sweep import ROOT, experiment

needs_slurm = pytest.mark.skipif(not daemons.available(), reason="needs root and Debian's slurm-wlm and munge")


def arguments(folder, **changes) -> list[str]:
    return [*experiment(folder, **changes), "--backend=slurm", "--slurm=--time=30"]


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    with daemons.running(tmp_path_factory.mktemp("slurm")) as environment:
        yield environment


def command(folder, environment, **changes) -> subprocess.Popen:
    words = [sys.executable, str(ROOT / "launch.py"), *arguments(folder, **changes)]
    return subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@needs_slurm
def test_monitoring_can_be_stopped_and_resumed(slurm, tmp_path):
    arms = '{"plain": {}, "wild": {"optim.lr": 1e38}}'
    array = tmp_path / "out" / "slurm" / "array.json"
    first = command(tmp_path, slurm, arms=arms)
    deadline = time.monotonic() + 120
    while not array.exists() and time.monotonic() < deadline:
        time.sleep(0.2)
    first.send_signal(signal.SIGTERM)
    said, _ = first.communicate(timeout=60)
    number = read_json(array, missing={})["array"]
    assert first.returncode == 75 and f"array {number} keeps running" in said, said
    second = command(tmp_path, slurm, arms=arms)
    said, _ = second.communicate(timeout=500)
    assert read_json(array, missing={})["array"] == number
    results = SweepResults.read(tmp_path / "out")
    states = {entry.name: results.status(id) for id, entry in results.runs.items()}
    wanted = {"plain": "done", "wild": "failed"}
    assert states == {f"{arm}, seed {seed}": status for seed in (0, 1) for arm, status in wanted.items()}, said
    assert second.returncode == 76 and "2 of 4 runs failed" in said


@needs_slurm
def test_a_refusal_of_sbatch_is_shown(slurm, tmp_path, capsys, monkeypatch):
    for name, value in slurm.items():
        monkeypatch.setenv(name, value)
    assert launch.main([*experiment(tmp_path), "--backend=slurm", "--slurm=--partition=none"]) == 2
    assert "sbatch refuses" in capsys.readouterr().err


def test_without_slurm_it_says_so(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert launch.main(arguments(tmp_path)) == 2
    said = capsys.readouterr().err
    assert "no sbatch on this machine" in said and "--backend=local" in said


def test_a_failed_task_leaves_failure_json(tmp_path):
    order = {"id": "x", "config": {"model": {}}, "workdir": str(tmp_path / "run"), "until": 0}
    (tmp_path / "orders.jsonl").write_text("\n" + json.dumps(order) + "\n")
    environment = {**os.environ, "SLURM_ARRAY_TASK_ID": "1"}
    words = [sys.executable, "-m", "gpt_jax.study.sweep.slurm", str(tmp_path / "orders.jsonl")]
    assert subprocess.run(words, cwd=ROOT, env=environment).returncode == 2
    noted = json.loads((tmp_path / "run" / "failure.json").read_text())
    assert noted["code"] == 2 and noted["error"]
