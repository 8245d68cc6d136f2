"""``launch.py import``: a directory of Hugging Face's becomes a run directory with a checkpoint of step 0."""

import dataclasses
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gpt_jax.config import Config, ModelConfig
from gpt_jax.data.tokenizers.file import Subwords
from gpt_jax.errors import StorageError, UserError
from gpt_jax.interop import families, tensors, tokenizer, weights
from gpt_jax.model import gpt, layout
from gpt_jax.storage import write_atomically
from gpt_jax.train import optim
from gpt_jax.train.checkpoint.checkpoints import Checkpoints
from gpt_jax.train.checkpoint.run_directory import CONFIG, TOKENIZER
from gpt_jax.train.record import environment
from gpt_jax.train.step import State
from gpt_jax.tree_paths import map_with_path, path_of


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """What a directory holds: ``family`` is its ``model_type``, ``arrays`` are path -> parameter, float32 in the stacked
    layout, and ``tokenizer`` is None where there is none that can be used here."""

    family: str
    config: Config
    arrays: dict[str, np.ndarray]
    tokenizer: Subwords | None


def read_directory(source: Path, others: Mapping[str, Any], files: Path) -> Pretrained:
    """A model of Hugging Face's, in memory.

    Args:
      source: the directory; its ``config.json`` says what the model is.
      others: a complete configuration, whose knobs hold where the directory says nothing.
      files: where the configuration says that the tokenizer's files are.

    Raises:
      UserError: the directory is not one that can be read as it was meant.
    """
    if not source.is_dir():
        raise UserError("there is no such directory", where=str(source))
    described = source / CONFIG
    values = tensors.read_json(described)
    family = families.named(str(values.get("model_type")), f"{described}: model_type")
    config = _with_tokenizer(family.config(values, str(described), others), source, files)
    with tensors.Reader(source) as reader:
        arrays = weights.read(family, config.model, shapes(config.model), reader, str(source))
    return Pretrained(family.name, config, arrays, _usable_tokenizer(source))


def import_directory(source: Path, workdir: Path, others: Mapping[str, Any]) -> Config:
    """Makes the run directory, completely or not at all; returns its configuration.

    Args:
      source, others: see ``read_directory``.

    Raises:
      UserError: the directory is not one that can be read as it was meant, or ``workdir`` is in use.
      StorageError: the disk refuses.
    """
    refuse_used(workdir, "another --workdir")
    found = read_directory(source, others, workdir.absolute() / tokenizer.FOLDER)
    config = found.config
    state = _fresh_state(config, found.arrays)

    def fill(folder: Path) -> None:
        tokenizer.carry(source, folder)
        if found.tokenizer is not None:
            write_atomically(folder / TOKENIZER, found.tokenizer.to_json())
        write_atomically(folder / CONFIG, config.to_json())
        environment.write(folder, {"data": 1})
        checkpoints = Checkpoints(folder, config.train.keep, config.train.keep_best)
        # No data has been seen yet, so that there is no fingerprint that others would have to match.
        checkpoints.save(0, state, {"data": "", "imported": {"from": str(source), "family": found.family}})
        checkpoints.close()

    make_directory(workdir, fill)
    return config


def shapes(model: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Path -> shape of every parameter, in the stacked layout."""
    leaves = jax.tree_util.tree_leaves_with_path(_stacked(model))
    return {path_of(keys): leaf.shape for keys, leaf in leaves}


def _stacked(model: ModelConfig) -> dict:
    """The parameters' shapes in the stacked layout."""
    model = dataclasses.replace(model, scan=True)
    return jax.eval_shape(lambda: gpt.init(model, jax.random.key(0)))


def refuse_used(directory: Path, fix: str) -> None:
    """
    Raises:
      UserError: there is something in the directory.
    """
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise UserError(
            "there is something already", where=str(directory), allowed="a new or an empty directory", fix=fix
        )


def make_directory(directory: Path, fill: Callable[[Path], None]) -> None:
    """A directory that appears under its name when ``fill`` has written all of it.

    Raises:
      StorageError: the disk refuses.
    """
    temporary = None
    try:
        directory.absolute().parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", dir=directory.absolute().parent))
        fill(temporary)
        temporary.chmod(0o777 & ~_umask())
        os.replace(temporary, directory.absolute())
    except OSError as error:
        raise StorageError(f"it cannot be written: {error.strerror or error}", where=str(directory)) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _with_tokenizer(config: Config, source: Path, files: Path) -> Config:
    """With the directory's ``tokenizer.json`` as the tokenizer of data."""
    if not (source / TOKENIZER).is_file():
        return config
    call = f"file(path={str(files / TOKENIZER)!r}, separator={tokenizer.separator(source)!r})"
    return dataclasses.replace(config, data=dataclasses.replace(config.data, tokenizer=call))


def _usable_tokenizer(source: Path) -> Subwords | None:
    """The directory's tokenizer, if it can be used here; a line says why not."""
    try:
        return tokenizer.read(source)
    except UserError as error:
        print(f"prompts have to be given as ids: {error.what}")
        return None


def params_of(model: ModelConfig, arrays: dict[str, np.ndarray]) -> dict:
    """The parameters as a tree, in the stacked layout; ``arrays`` are taken over one by one."""
    cpu = jax.local_devices(backend="cpu")[0]
    return map_with_path(lambda path, _: jax.device_put(arrays.pop(path), cpu, may_alias=True), _stacked(model))


def _fresh_state(config: Config, arrays: dict[str, np.ndarray]) -> State:
    """The state before the first update, in the stacked layout; ``arrays`` are taken over one by one."""
    cpu = jax.local_devices(backend="cpu")[0]
    period, scan = len(config.model.attentions), bool(config.model.scan)

    def start(params):
        live = params if scan else layout.unstack(params, period)
        opt = optim.build(config, live, scan).init(live)
        return opt if scan else layout.stack(opt, period)

    with jax.default_device(cpu):
        params = params_of(config.model, arrays)
        state = {"step": jnp.int32(0), "skipped": jnp.int32(0), "params": params, "opt": jax.jit(start)(params)}
    return {**state, "ema": params} if config.optim.ema else state
