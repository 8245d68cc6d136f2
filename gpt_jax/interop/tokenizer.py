"""The tokenizer's files: copied as they are, and converted to the run's own ``tokenizer.json`` where that works."""

import json
import shutil
from pathlib import Path
from typing import Any

from gpt_jax.data.tokenizers import SEPARATOR
from gpt_jax.data.tokenizers.file import Subwords
from gpt_jax.errors import UserError
from gpt_jax.interop.tensors import read_json
from gpt_jax.train.checkpoint.run_directory import CARRIED as FOLDER
from gpt_jax.train.checkpoint.run_directory import TOKENIZER

CONFIG = "config.json"
CARRIED = (
    TOKENIZER,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "chat_template.jinja",
    "generation_config.json",
)


def carry(source: Path, workdir: Path) -> None:
    """Copies ``config.json`` and the tokenizer's files of a directory into a run's."""
    folder = workdir / FOLDER
    folder.mkdir()
    for name in (CONFIG, *CARRIED):
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)


def separator(source: Path) -> str:
    """The text of the token that ends a document."""
    path = source / "tokenizer_config.json"
    token = read_json(path).get("eos_token") if path.exists() else None
    token = token.get("content") if isinstance(token, dict) else token
    return token if isinstance(token, str) and token else SEPARATOR


def read(source: Path) -> Subwords | None:
    """The tokenizer of a directory; None where there is no ``tokenizer.json``.

    Raises:
      UserError: it is damaged, or one whose tokens stand for no definite number of bytes.
    """
    path = source / TOKENIZER
    if not path.is_file():
        return None
    try:
        return Subwords(path.read_text("utf-8"), separator(source), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{TOKENIZER} cannot be read: {error}", where=str(path)) from None


def restore(workdir: Path, target: Path) -> bool:
    """Puts a run's tokenizer into a directory; whether there was one that can be put there."""
    carried = workdir / FOLDER
    if carried.is_dir():
        found = [name for name in CARRIED if (carried / name).is_file()]
        for name in found:
            shutil.copyfile(carried / name, target / name)
        return any(name in found for name in (TOKENIZER, "vocab.json", "tokenizer.model"))
    own = read_json(workdir / TOKENIZER) if (workdir / TOKENIZER).exists() else {}
    if own.get("kind") != "file":
        return False
    (target / TOKENIZER).write_text(own["spec"], "utf-8")
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": own["separator"]}
    (target / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", "utf-8")
    return True


def carried_config(workdir: Path) -> dict[str, Any]:
    """The ``config.json`` that a run was imported with; empty where it was not."""
    path = workdir / FOLDER / CONFIG
    return read_json(path) if path.exists() else {}
