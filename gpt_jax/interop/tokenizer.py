"""The tokenizer's files: copied as they are, and converted to the run's own ``tokenizer.json`` where that works."""

import json
import shutil
from pathlib import Path
from typing import Any

from gpt_jax.data import vocab_files
from gpt_jax.data.tokenizers import SEPARATOR
from gpt_jax.data.tokenizers.file import Subwords, read_spec
from gpt_jax.errors import UserError
from gpt_jax.interop.tensors import read_json, refuse_pointer
from gpt_jax.train.checkpoint.run_directory import CARRIED as FOLDER
from gpt_jax.train.checkpoint.run_directory import TOKENIZER, read_tokenizer

CONFIG = "config.json"
GENERATION = "generation_config.json"
TOKEN_IDS = ("bos_token_id", "eos_token_id", "pad_token_id")
NONE = "none"  # the tokenizer of data for a model without one
SENTENCES = "tokenizer.model*"
CARRIED = (
    TOKENIZER,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    SENTENCES,
    "tekken.json",
    "chat_template.jinja",
    "chat_template.json",
    "additional_chat_templates/*.jinja",
    GENERATION,
)


def carry(source: Path, workdir: Path) -> None:
    """Copies ``config.json`` and the tokenizer's files of a directory into a run's."""
    folder = workdir / FOLDER
    folder.mkdir()
    _copy(source, folder, (CONFIG, *CARRIED))


def _copy(source: Path, target: Path, patterns: tuple[str, ...]) -> list[str]:
    """Copies the files that match; their names."""
    found = [path for pattern in patterns for path in sorted(source.glob(pattern)) if path.is_file()]
    for path in found:
        into = target / path.relative_to(source)
        into.parent.mkdir(exist_ok=True)
        shutil.copyfile(path, into)
    return [path.name for path in found]


def separator(source: Path) -> str:
    """The text of the token that ends a document."""
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        token = read_json(source / name).get("eos_token") if (source / name).is_file() else None
        token = token.get("content") if isinstance(token, dict) else token
        if isinstance(token, str) and token:
            return token
    return SEPARATOR


def call(source: Path, files: Path) -> str:
    """The tokenizer of data for a directory's model.

    Args:
      source: the directory.
      files: where its files will be.
    """
    path = _path(source, files)
    return NONE if path is None else f"file(path={str(path)!r}, separator={separator(source)!r})"


def ends(source: Path) -> list[int]:
    """The ids that end what the directory's model writes, as ``generate`` of transformers has them."""
    for name in (GENERATION, CONFIG):
        found = read_json(source / name).get("eos_token_id") if (source / name).exists() else None
        if found is not None:
            return found if isinstance(found, list) else [found]
    return []


def read(source: Path) -> Subwords | None:
    """The tokenizer of a directory; None where there is none.

    Raises:
      UserError: it is damaged, or none that can be used here.
    """
    path = _path(source, source)
    if path is not None:
        refuse_pointer(path)
        return Subwords(read_spec(path), separator(source), str(path), opens=True, ends=ends(source))
    for other in sorted(source.glob(SENTENCES)):
        raise UserError(f"{other.name} is a file of sentencepiece", where=str(other), fix=vocab_files.CONVERT)
    return None


def _path(source: Path, files: Path) -> Path | None:
    """What a tokenizer is read from: a ``tokenizer.json``, or else the folder with its parts."""
    if (source / TOKENIZER).is_file():
        return files / TOKENIZER
    return files if vocab_files.has_files(source) else None


def restore(workdir: Path, target: Path) -> bool:
    """Puts a run's tokenizer into a directory; whether there was one that can be put there."""
    carried = workdir / FOLDER
    if carried.is_dir():
        found = _copy(carried, target, CARRIED)
        return any(name.startswith(("tokenizer.", "vocab.", "tekken.")) for name in found)
    own = read_json(workdir / TOKENIZER) if (workdir / TOKENIZER).exists() else {}
    if own.get("kind") != "file":
        return False
    (target / TOKENIZER).write_text(own["spec"], "utf-8")
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": own["separator"]}
    (target / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", "utf-8")
    return True


def token_ids(workdir: Path) -> dict[str, Any]:
    """The ids that a model begins, ends and fills up with: those that a run was imported with, else the separator of its
    tokenizer as the one that it ends with."""
    found = {name: carried_config(workdir).get(name) for name in TOKEN_IDS}
    own = read_tokenizer(workdir) if all(value is None for value in found.values()) else None
    return found if own is None else {**found, "eos_token_id": own.separator}


def carried_config(workdir: Path) -> dict[str, Any]:
    """The ``config.json`` that a run was imported with; empty where it was not."""
    path = workdir / FOLDER / CONFIG
    return read_json(path) if path.exists() else {}
