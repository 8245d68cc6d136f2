"""States for tests of checkpoints, and a subprocess to lose them in."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import jax
import numpy as np
import optax
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from gpt_jax.train.checkpoint import manifest
from gpt_jax.train.checkpoint.checkpoints import Checkpoints
from tests import xla

ROOT = Path(__file__).resolve().parents[2]
SPLIT = P("data")


def mesh_of(devices: int) -> jax.sharding.Mesh:
    return jax.make_mesh(
        (devices,), ("data",), axis_types=(jax.sharding.AxisType.Auto,), devices=jax.devices()[:devices]
    )


def state_at(step: int, devices: int = 8, spec: P = SPLIT) -> dict:
    """A state whose every number tells its step, with an optimizer state of namedtuples and empty nodes."""
    mesh = mesh_of(devices)
    rng = np.random.default_rng(step)
    params = {
        "w": rng.standard_normal((16, 24)).astype(np.float32),
        "blocks": {"0": {"b": np.full(8, step, np.float32)}},
    }
    state = {"step": np.int32(step), "params": params, "opt": optax.adamw(1e-3).init(params)}
    put = lambda x: jax.device_put(x, NamedSharding(mesh, spec if np.ndim(x) else P()))
    return jax.tree.map(put, state)


def abstract(state: dict) -> dict:
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state)


def assert_same(found: dict, wanted: dict) -> None:
    assert jax.tree.structure(found) == jax.tree.structure(wanted)
    for (path, a), b in zip(manifest.paths(found), jax.tree.leaves(wanted), strict=True):
        assert a.dtype == b.dtype and np.array_equal(np.asarray(a), np.asarray(b)), path


def opened(workdir: Path, keep: int = 2, keep_best: bool = True) -> Checkpoints:
    return Checkpoints(workdir, keep, keep_best)


def saved(workdir: Path, *steps: int, **kwargs) -> Checkpoints:
    checkpoints = opened(workdir, **kwargs)
    for step in steps:
        checkpoints.save(step, state_at(step), {"tokens": step * 100})
    checkpoints.wait()
    return checkpoints


def run(script: str, *arguments: str, **kwargs) -> subprocess.Popen:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "XLA_FLAGS": xla.flags()}
    command = [sys.executable, "-c", textwrap.dedent(script), *arguments]
    return subprocess.Popen(
        command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **kwargs
    )
