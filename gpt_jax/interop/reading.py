"""A directory of Hugging Face's, read: its configuration as ours, its tensors as parameters, its tokenizer."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from gpt_jax import registry
from gpt_jax.backend import host_device
from gpt_jax.config import Config, ModelConfig
from gpt_jax.data.tokenizers import Texts, Tokenizer
from gpt_jax.data.tokenizers.file import Subwords
from gpt_jax.errors import UserError
from gpt_jax.interop import families, tensors, tokenizer, weights
from gpt_jax.interop.family import Family
from gpt_jax.model import gpt
from gpt_jax.run_directory import CONFIG
from gpt_jax.tree_paths import map_with_path, path_of


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """What a directory holds: ``family`` is its ``model_type``, ``arrays`` are path -> parameter, float32 in the stacked
    layout, and ``tokenizer`` is None where there is none that can be used here."""

    family: str
    config: Config
    arrays: dict[str, np.ndarray]
    tokenizer: Tokenizer | None


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
    family, config = described(source, others, files)
    with tensors.Reader(source, _chosen(source)) as reader:
        arrays = weights.read(family, config.model, shapes(config.model), reader, str(source))
    asked = others["data"]["tokenizer"]
    own = _usable_tokenizer(source) if asked == tokenizer.NONE else _named(asked)
    return Pretrained(family.name, config, arrays, own)


def described(source: Path, others: Mapping[str, Any], files: Path, prompts: bool = False) -> tuple[Family, Config]:
    """The family of a directory's model, and its configuration; no tensor is read. Arguments as in ``read_directory``.

    Args:
      prompts: whether its tokenizer is named with what it opens prompts and ends texts with.

    Raises:
      UserError: the directory is not one that can be read as it was meant.
    """
    if not source.is_dir():
        raise UserError("there is no such directory", where=str(source))
    where = source / CONFIG
    values = tensors.read_json(where)
    family = families.of_directory(values, str(where))
    config = family.config(values, str(where), others)
    if config.data.tokenizer == tokenizer.NONE:
        call = tokenizer.call(source, files, prompts)
        config = dataclasses.replace(config, data=dataclasses.replace(config.data, tokenizer=call))
    return family, config


def digest(source: Path) -> str:
    """SHA-256 of a directory's tensors, as they are in its files."""
    return tensors.digest(source, _chosen(source))


def _chosen(source: Path) -> str:
    """The file of tensors that config.json names, if it does."""
    return tensors.read_json(source / CONFIG).get("transformers_weights") or ""


def shapes(model: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Path -> shape of every parameter, in the stacked layout."""
    leaves = jax.tree_util.tree_leaves_with_path(stacked(model))
    return {path_of(keys): leaf.shape for keys, leaf in leaves}


def stacked(model: ModelConfig) -> dict:
    """The parameters' shapes in the stacked layout."""
    model = dataclasses.replace(model, scan=True)
    return jax.eval_shape(lambda: gpt.init(model, jax.random.key(0)))


def _named(call: str) -> Tokenizer:
    return registry.build("data.tokenizers", call, Texts((), 0.0, Path()), where="config.data.tokenizer")


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
    return map_with_path(lambda path, _: jax.device_put(arrays.pop(path), cpu, may_alias=True), stacked(model))
