"""``launch.py import``: a directory of Hugging Face's becomes a run directory with a checkpoint of step 0."""

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
from gpt_jax.config import Config
from gpt_jax.data.rendering import template_of, with_tokens
from gpt_jax.errors import UserError
from gpt_jax.interop import tokenizer
from gpt_jax.interop.reading import params_of, read_directory
from gpt_jax.model import layout
from gpt_jax.run_directory import CONFIG, TOKENIZER, config_json
from gpt_jax.storage import refused, write_atomically
from gpt_jax.train import optim
from gpt_jax.train.checkpoint.checkpoints import Checkpoints
from gpt_jax.train.record import environment
from gpt_jax.train.step import State

EMPTY = {"lost+found"}  # what a volume without files has


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
            write_atomically(folder / TOKENIZER, with_tokens(found.tokenizer, template_of(config)).to_json())
        write_atomically(folder / CONFIG, config_json(config, workdir.absolute()))
        environment.write(folder, {"data": 1})
        checkpoints = Checkpoints(folder, config.train.keep, config.train.keep_best)
        # No data has been seen yet, so that there is no fingerprint that others would have to match.
        checkpoints.save(0, state, {"data": "", "imported": {"from": str(source), "family": found.family}})
        checkpoints.close()

    make_directory(workdir, fill)
    return config


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
