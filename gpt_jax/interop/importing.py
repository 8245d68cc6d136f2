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

from gpt_jax.backend import host_device
from gpt_jax.config import Config, ModelConfig
from gpt_jax.data.tokenizers.file import Subwords
from gpt_jax.errors import UserError
from gpt_jax.interop import families, tensors, tokenizer, weights
from gpt_jax.model import gpt, layout
from gpt_jax.storage import refused, write_atomically
from gpt_jax.train import optim
from gpt_jax.train.checkpoint.checkpoints import Checkpoints
from gpt_jax.train.checkpoint.run_directory import CONFIG, TOKENIZER, config_json
from gpt_jax.train.record import environment
from gpt_jax.train.step import State
from gpt_jax.tree_paths import map_with_path, path_of

EMPTY = {"lost+found"}  # what a volume without files has


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
      others: a complete configuration, whose knobs hold where the directory says nothing; its tokenizer, unless that
        is "none".
      files: where the configuration says that the tokenizer's files are.

    Raises:
      UserError: the directory is not one that can be read as it was meant.
    """
    if not source.is_dir():
        raise UserError("there is no such directory", where=str(source))
    described = source / CONFIG
    values = tensors.read_json(described)
    family = families.of_directory(values, str(described))
    config = _with_tokenizer(family.config(values, str(described), others), source, files)
    with tensors.Reader(source, values.get("transformers_weights") or "") as reader:
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
        write_atomically(folder / CONFIG, config_json(config, workdir.absolute()))
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
      UserError: there is something in the directory, other than what an empty volume has.
    """
    if not directory.exists():
        return
    found = sorted({path.name for path in directory.iterdir()} - EMPTY) if directory.is_dir() else [directory.name]
    if found:
        what = f"there is something already: {found[0]}"
        raise UserError(what, where=str(directory), allowed="a new or an empty directory", fix=fix)


def make_directory(directory: Path, fill: Callable[[Path], None]) -> None:
    """A directory that appears under its name when ``fill`` has written all of it. One that is there, perhaps a volume or
    at the end of a link, stays and gets the contents, what makes it a run or a model last.

    Raises:
      StorageError: the disk refuses.
    """
    target = directory.resolve()
    there = target.is_dir()
    temporary = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target if there else target.parent))
        fill(temporary)
        if there:
            for path in sorted(temporary.iterdir(), key=lambda path: path.name == CONFIG):
                os.rename(path, target / path.name)
        else:
            temporary.chmod(0o777 & ~_umask())
            os.replace(temporary, target)
    except OSError as error:
        raise refused(directory, error) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _with_tokenizer(config: Config, source: Path, files: Path) -> Config:
    """With the directory's tokenizer as that of data, unless another was asked for."""
    if config.data.tokenizer != tokenizer.NONE:
        return config
    call = tokenizer.call(source, files)
    return dataclasses.replace(config, data=dataclasses.replace(config.data, tokenizer=call))


def _usable_tokenizer(source: Path) -> Subwords | None:
    """The directory's tokenizer, if it can be used here; a line says why not."""
    reason = "the directory has no tokenizer"
    try:
        found = tokenizer.read(source)
    except UserError as error:
        found, reason = None, ": ".join(filter(None, (error.what, error.fix)))
    if found is None:
        print(f"prompts have to be given as ids: {reason}")
    return found


def params_of(model: ModelConfig, arrays: dict[str, np.ndarray]) -> dict:
    """The parameters as a tree, in the stacked layout; ``arrays`` are taken over one by one."""
    cpu = host_device()
    return map_with_path(lambda path, _: jax.device_put(arrays.pop(path), cpu, may_alias=True), _stacked(model))


def _fresh_state(config: Config, arrays: dict[str, np.ndarray]) -> State:
    """The state before the first update, in the stacked layout; ``arrays`` are taken over one by one."""
    cpu = host_device()
    period, scan = len(config.model.attentions), bool(config.model.scan)

    def start(params):
        live = params if scan else layout.unstack(params, period)
        opt = optim.build(config, live, scan).init(live)
        return opt if scan else layout.stack(opt, period)

    with jax.default_device(cpu):
        params = params_of(config.model, arrays)
        state = {"step": jnp.int32(0), "skipped": jnp.int32(0), "params": params, "opt": jax.jit(start)(params)}
    return {**state, "ema": params} if config.optim.ema else state
