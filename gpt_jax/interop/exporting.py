"""``launch.py export``: a checkpoint of a run becomes a directory that ``transformers`` can open."""

import json
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
from jax.sharding import SingleDeviceSharding

from gpt_jax import bars
from gpt_jax.backend import host_device
from gpt_jax.config import Config
from gpt_jax.errors import UserError
from gpt_jax.interop import families, plan, tensors, tokenizer, weights
from gpt_jax.interop.importing import make_directory, refuse_used, shapes
from gpt_jax.interop.rows import sizes_of
from gpt_jax.interop.settings import OF_THE_MODEL
from gpt_jax.model import layout
from gpt_jax.train.checkpoint.checkpoints import Checkpoints
from gpt_jax.train.checkpoint.run_directory import CONFIG
from gpt_jax.train.step import init_state, read_params
from gpt_jax.tree_paths import path_of


@dataclass(frozen=True)
class Form:
    """How an export is written.

    Args:
      family: a ``model_type``; empty = the one it was imported as, or the first that can express the model.
      dtype: of the tensors.
      shard: bytes that a file may have at most; a tensor that is larger has one of its own.
    """

    family: str = ""
    dtype: str = "float32"
    shard: int = 5_000_000_000


def export_run(config: Config, workdir: Path, target: Path, step: int | None, form: Form) -> int:
    """Writes the directory, completely or not at all; returns the checkpoint's step. Where the run keeps a moving average
    of its parameters, that is what is written, as it is what evaluation uses.

    Raises:
      UserError: no family can express the model (the knob is named), there is no such checkpoint, or ``target`` is used.
      StorageError: the disk refuses.
    """
    refuse_used(target, "another --to")
    carried = tokenizer.carried_config(workdir)
    family = (
        families.named(form.family, "--family")
        if form.family
        else families.that_says(config.model, carried.get("model_type", ""))
    )
    values, said = family.settings(config.model)
    wanted = {t.name: t for t in plan.tensors(family.rows, said, shapes(said) | shapes(config.model))}
    dtype = tensors.dtype_of(form.dtype)
    sizes = [(t.name, int(np.prod(t.row.shape(sizes_of(said)))) * dtype.itemsize) for t in wanted.values()]
    step, arrays = _parameters(config, workdir, step)
    ids = tokenizer.token_ids(workdir)

    same = carried.get("model_type") == family.name
    kept = {key: value for key, value in carried.items() if key in OF_THE_MODEL and same}

    def make(name: str) -> np.ndarray:
        return weights.make(wanted[name], said, arrays, dtype)

    def fill(folder: Path) -> None:
        named = {
            **kept,
            **values,
            **ids,
            "dtype": form.dtype,
            "torch_dtype": form.dtype,
        }
        (folder / CONFIG).write_text(json.dumps(named, indent=2) + "\n", "utf-8")
        progress = bars.bar(total=len(wanted), desc="writing", unit="tensor")
        for _ in tensors.write(folder, sizes, make, form.shard):
            progress.update()
        progress.close()
        if not tokenizer.restore(workdir, folder):
            print("the run has no tokenizer that transformers could use; none was written")
        if not (folder / tokenizer.GENERATION).exists():
            (folder / tokenizer.GENERATION).write_text(json.dumps(ids, indent=2) + "\n", "utf-8")

    make_directory(target, fill)
    return step


def _parameters(config: Config, workdir: Path, step: int | None) -> tuple[int, dict[str, np.ndarray]]:
    """The step of a checkpoint, and its parameters by path in the stacked layout."""
    here = SingleDeviceSharding(host_device())
    live = jax.eval_shape(lambda: init_state(config, jax.random.key(0)))
    period, scan = len(config.model.attentions), config.model.scan
    abstract = live if scan else jax.eval_shape(lambda state: layout.stack(state, period), live)
    abstract = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here), abstract)
    checkpoints = Checkpoints(workdir, config.train.keep, config.train.keep_best)
    found = checkpoints.restore(abstract, step)
    checkpoints.close()
    if found is None:
        raise UserError("there is no checkpoint in this run", where=str(workdir), fix="train it first")
    step, state, _ = found
    leaves = jax.tree_util.tree_leaves_with_path(read_params(state))
    return step, {path_of(keys): np.asarray(leaf) for keys, leaf in leaves}
