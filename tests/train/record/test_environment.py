"""environment.json tells what a run ran on, start by start."""

import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from gpt_jax.errors import StorageError
from gpt_jax.train.record import environment
from gpt_jax.train.starting import facts

ROOT = Path(__file__).resolve().parents[3]


def test_what_is_told(monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "42")
    monkeypatch.delenv("LIBTPU_INIT_ARGS", raising=False)
    found = environment.environment()
    assert json.loads(json.dumps(found)) == found
    assert abs((datetime.datetime.now(datetime.UTC) - datetime.datetime.fromisoformat(found["time"])).seconds) < 60
    assert (found["argv"], found["cwd"], found["pid"]) == (sys.argv, os.getcwd(), os.getpid())
    assert (found["python"], found["host"]) == (platform.python_version(), platform.node())
    for name in ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy"):
        assert found["packages"][name] == importlib.metadata.version(name)
    assert found["devices"] == {jax.devices()[0].device_kind: jax.device_count()} and found["processes"] == 1
    assert found["jax"]["jax_enable_x64"] == jax.config.jax_enable_x64
    assert found["variables"]["SLURM_JOB_ID"] == "42" and "LIBTPU_INIT_ARGS" not in found["variables"]
    assert found["variables"]["XLA_FLAGS"] == os.environ["XLA_FLAGS"] and 1 <= found["cpus"] <= os.cpu_count()


def test_a_package_that_is_not_there(monkeypatch):
    monkeypatch.setattr(facts, "PACKAGES", ("no-such-package",))
    assert facts.versions() == {"no-such-package": "none"}


def git(folder: Path, *args: str) -> str:
    identity = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
    return subprocess.run(["git", *identity, *args], cwd=folder, check=True, capture_output=True, text=True).stdout


def test_the_revision_and_whether_files_differ_from_it(tmp_path):
    (tmp_path / "environment.py").write_text("1")
    assert environment._git(tmp_path) is None
    git(tmp_path, "init", "-q")
    assert environment._git(tmp_path) is None  # a repository that does not track this package
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "x")
    revision = git(tmp_path, "rev-parse", "HEAD").strip()
    assert environment._git(tmp_path) == {"revision": revision, "dirty": False}
    (tmp_path / "environment.py").write_text("2")
    assert environment._git(tmp_path) == {"revision": revision, "dirty": True}


def test_without_git(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert environment._git(ROOT) is None


def test_every_start_is_kept(tmp_path):
    for size in (1, 8):
        environment.write(tmp_path, {"data": size, "fsdp": 1})
    starts = json.loads((tmp_path / "environment.json").read_text())["starts"]
    assert [start["mesh"] for start in starts] == [{"data": 1, "fsdp": 1}, {"data": 8, "fsdp": 1}]


@pytest.mark.parametrize("text", ["{", "[]", '{"starts": 3}'])
def test_a_damaged_file_is_told_and_left(tmp_path, text):
    path = tmp_path / "environment.json"
    path.write_text(text)
    with pytest.raises(StorageError) as caught:
        environment.write(tmp_path, {})
    assert caught.value.where == str(path) and path.read_text() == text
