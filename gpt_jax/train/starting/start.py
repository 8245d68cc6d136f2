"""What training starts from instead of fresh parameters (``tune.start``): another run, or a model of Hugging Face's."""

import dataclasses
import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from gpt_jax.config import Config, ModelConfig
from gpt_jax.data.open import Data
from gpt_jax.data.tokenizers import Tokenizer
from gpt_jax.errors import UserError
from gpt_jax.interop import reading, tokenizer
from gpt_jax.limits import folded
from gpt_jax.run_directory import CARRIED, read_tokenizer
from gpt_jax.storage import writing
from gpt_jax.train.checkpoint import manifest
from gpt_jax.train.checkpoint.directory import DIRECTORY, CheckpointDirectory
from gpt_jax.train.starting import mapping, parameters, places
from gpt_jax.tree_paths import map_with_path


@dataclasses.dataclass(frozen=True)
class Start:
    """A model that training may begin with.

    Attributes:
      where: as it was named.
      model: what it is.
      arrays: path -> parameter, float32, in the stacked layout.
      tokenizer: None where its tokens are not text, or its tokenizer cannot be used here.
      digest: of its parameters.
      step: of a run; 0 of a directory of Hugging Face's.
    """

    where: str
    model: ModelConfig
    arrays: dict[str, np.ndarray]
    tokenizer: Tokenizer | None
    digest: str
    step: int

    @property
    def parent(self) -> dict[str, Any]:
        """What checkpoints say of it."""
        return {"start": self.where, "step": self.step, "digest": self.digest}


def has_begun(workdir: Path) -> bool:
    """Whether a run directory has a checkpoint, so that the run needs its start no longer."""
    folder = CheckpointDirectory(workdir / DIRECTORY, keep=0, keep_best=False)
    return bool(folder.steps()) or any(folder.directory.glob("corrupt-*"))


def check(config: Config, workdir: Path) -> None:
    """What can be said of ``tune.start`` before data or tensors are read.

    Raises:
      UserError: there is no such model, it is the run itself, or one of another size.
    """
    if config.tune.start and not has_begun(workdir):
        place = places.find(config.tune.start)
        places.check_other(place, workdir)
        mapping.check(places.settings(place, config.to_dict()).model, config.model)


def read(where: str, defaults: Mapping[str, Any]) -> Start:
    """The model that ``where`` names.

    Args:
      defaults: a complete configuration, whose knobs hold where the model says nothing.

    Raises:
      UserError: there is no such run, step or directory.
      StorageError: it is damaged.
    """
    place = places.find(where)
    config = places.settings(place, defaults)
    if place.pretrained:
        found = reading.read_directory(place.path, places.unsaid(defaults), place.path.absolute())
        return Start(where, found.config.model, found.arrays, found.tokenizer, reading.digest(place.path), 0)
    step, arrays = parameters.of_run(config, place.path, place.step)
    return Start(where, config.model, arrays, read_tokenizer(place.path), digest_of(place.path, step), step)


def digest_of(workdir: Path, step: int) -> str:
    """Of a checkpoint of a run."""
    return hashlib.sha256((workdir / DIRECTORY / str(step) / manifest.SEAL).read_bytes()).hexdigest()


def begun(start: Start, config: Config, data: Data) -> tuple[dict, list[str]]:
    """The parameters that a run begins with, in the stacked layout on the host, and what is not as it was, a line each.

    Raises:
      UserError: there is no rule that makes a parameter from those of the start, or the tokenizer is another.
    """
    check_tokenizer(start, data.tokenizer)
    own = 0 if start.tokenizer is None else min(start.tokenizer.vocab, start.model.vocab)
    key = jax.random.key(np.uint32(folded(config.train.seed)))
    found = mapping.mapped(start.model, start.arrays, config.model, key, own, min(data.vocab, config.model.vocab))
    return _tree(config.model, found.arrays), found.notes


def mapped(start: Start, model: ModelConfig) -> dict:
    """The parameters of ``model`` made from those of a start, in the stacked layout, on the host.

    Raises:
      UserError: there is no rule that makes a parameter from those of the start; it is named.
    """
    return _tree(model, mapping.mapped(start.model, start.arrays, model, jax.random.key(0)).arrays)


def check_tokenizer(start: Start, used: Tokenizer | None) -> None:
    """
    Raises:
      UserError: an id of the start's tokenizer stands for something else in the tokenizer that is used.
    """
    if start.tokenizer is None or used is None or start.tokenizer.fingerprint == used.fingerprint:
        return
    theirs, ours = start.tokenizer.token_bytes(), used.token_bytes()[: start.tokenizer.vocab]
    if theirs == ours and start.tokenizer.separator == used.separator:
        return  # with further ids
    first = next((i for i, (a, b) in enumerate(zip(theirs, ours, strict=False)) if a != b), len(ours))
    raise UserError(
        f"the tokenizer is another than that of {start.where}: id {first} stands for something else",
        where="config.data.tokenizer",
        allowed="that of the model that training starts from, perhaps with further tokens",
        fix='--config.data.tokenizer="start"',
    )


def carry(where: str, workdir: Path) -> None:
    """Copies what a model of Hugging Face's has beside its tensors into the run directory, so that an export has it too.

    Raises:
      StorageError: the disk refuses.
    """
    place, target = places.find(where), workdir / CARRIED
    with writing(target):
        if place.pretrained:
            tokenizer.carry(place.path, workdir)
        elif (place.path / CARRIED).is_dir():
            shutil.copytree(place.path / CARRIED, target, dirs_exist_ok=True)


def _tree(model: ModelConfig, arrays: dict[str, np.ndarray]) -> dict:
    return map_with_path(lambda path, _: arrays[path], reading.stacked(model))
