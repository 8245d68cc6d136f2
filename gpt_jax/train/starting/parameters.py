"""The model's parameters in a checkpoint, on the host: what is exported, and what other runs start from."""

import dataclasses
from pathlib import Path

import jax
import numpy as np
from jax.sharding import Mesh, SingleDeviceSharding

from gpt_jax.backend import host_device
from gpt_jax.config import Config
from gpt_jax.errors import StorageError, UserError
from gpt_jax.mesh import collectives
from gpt_jax.model import gpt, layout
from gpt_jax.train.checkpoint.checkpoints import Checkpoints
from gpt_jax.train.checkpoint.directory import remove
from gpt_jax.train.forward import HEADS
from gpt_jax.train.step import adapter_of, init_state, read_params
from gpt_jax.tree_paths import path_of

BASE = "base"  # folder of a run: what its adapter is applied to, or its policy is compared with


def of_run(config: Config, workdir: Path, step: int | None) -> tuple[int, dict[str, np.ndarray]]:
    """The step of a checkpoint, the newest if none is named, and its model's parameters by path in the stacked layout; the
    moving average, where the run keeps one, and with its adapter applied.

    Raises:
      UserError: there is no such checkpoint.
    """
    step, trained = trained_of_run(config, workdir, step)
    adapter = adapter_of(config)
    # A run that begins here reads this within a mesh of its own devices, which the host's arrays are not on.
    with jax.set_mesh(Mesh([host_device()], ("host",))), jax.default_device(host_device()):
        params = trained if adapter.alone else adapter.apply(read_base(config, workdir), trained)
    return step, by_path(params)


def trained_of_run(config: Config, workdir: Path, step: int | None) -> tuple[int, dict]:
    """The step of a checkpoint, and what its run trains but for the objective's own, in the stacked layout on the host.

    Raises:
      UserError: there is no such checkpoint.
    """
    step, state = _restored(config, workdir, step)
    return step, {name: tree for name, tree in read_params(state).items() if name != HEADS}


def by_path(params: dict) -> dict[str, np.ndarray]:
    """Path -> array."""
    return {path_of(keys): np.asarray(leaf) for keys, leaf in jax.tree_util.tree_leaves_with_path(params)}


def write_base(workdir: Path, params: dict) -> None:
    """Keeps what a run begins with and reads ever after, in the stacked layout: the run is whole. What is there is of
    a process that was killed before its run had a checkpoint, and is replaced: its start may have trained since.

    Raises:
      StorageError: the disk refuses.
    """
    left = False
    if jax.process_index() == 0:
        remove(workdir / BASE)
        left = (workdir / BASE).exists()
    if collectives.all_reduce_max(int(left)):  # nobody writes before it is gone
        raise _lost(workdir, "of an earlier start cannot be removed")
    checkpoints = _base(workdir)
    checkpoints.save(0, params, {})
    checkpoints.wait()
    checkpoints.close()


def read_base(config: Config, workdir: Path, abstract: dict | None = None) -> dict:
    """What ``write_base`` kept: on the host, or as ``abstract`` is placed.

    Raises:
      StorageError: it is missing or damaged.
    """
    checkpoints = _base(workdir)
    try:
        found = checkpoints.restore(_on_host(_stacked(config)) if abstract is None else abstract, 0)
    except (StorageError, UserError) as error:
        raise _lost(workdir, f"cannot be read: {error.what}") from error
    finally:
        checkpoints.close()
    assert found is not None
    return found[1]


def _lost(workdir: Path, how: str) -> StorageError:
    return StorageError(
        f"the parameters that the run began with {how}",
        where=str(workdir / BASE),
        fix="put a copy of this folder back; an adapter alone is not a model, and a policy is compared with it",
    )


def _restored(config: Config, workdir: Path, step: int | None) -> tuple[int, dict]:
    live = jax.eval_shape(lambda: init_state(config, jax.random.key(0)))
    period = len(config.model.attentions)
    abstract = live if config.model.scan else jax.eval_shape(lambda state: layout.stack(state, period), live)
    checkpoints = Checkpoints(workdir, config.train.keep, config.train.keep_best)
    found = checkpoints.restore(_on_host(abstract), step)
    checkpoints.close()
    if found is None:
        raise UserError("there is no checkpoint in this run", where=str(workdir), fix="train it first")
    return found[0], found[1]


def _base(workdir: Path) -> Checkpoints:
    return Checkpoints(workdir / BASE, keep=1, keep_best=False)


def _stacked(config: Config) -> dict:
    model = dataclasses.replace(config.model, scan=True)
    return jax.eval_shape(lambda: gpt.init(model, jax.random.key(0)))


def _on_host(tree: dict) -> dict:
    here = SingleDeviceSharding(host_device())
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here), tree)
