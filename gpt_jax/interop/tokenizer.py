"""The tokenizer's files: copied as they are, and converted to the run's own ``tokenizer.json`` where that works."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gpt_jax.data import vocab_files
from gpt_jax.data.templates import Template
from gpt_jax.data.tokenizers import SEPARATOR
from gpt_jax.data.tokenizers.extended import Extended
from gpt_jax.data.tokenizers.file import Subwords, read_spec
from gpt_jax.errors import UserError
from gpt_jax.interop.tensors import read_json, refuse_pointer
from gpt_jax.run_directory import CARRIED as FOLDER
from gpt_jax.run_directory import TOKENIZER, read_tokenizer

CONFIG = "config.json"
GENERATION = "generation_config.json"
TOKEN_IDS = ("bos_token_id", "eos_token_id", "pad_token_id")
NONE = "none"  # the tokenizer of data for a model without one
SETTINGS = "tokenizer_config.json"
JINJA = "chat_template.jinja"
SENTENCES = "tokenizer.model*"
CARRIED = (
    TOKENIZER,
    SETTINGS,
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    SENTENCES,
    "tekken.json",
    JINJA,
    "chat_template.json",
    "additional_chat_templates/*.jinja",
    GENERATION,
)


def carry(source: Path, workdir: Path) -> None:
    """Copies ``config.json`` and the tokenizer's files of a directory into a run's."""
    folder = workdir / FOLDER
    folder.mkdir(exist_ok=True)
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
    for name in (SETTINGS, "special_tokens_map.json"):
        token = read_json(source / name).get("eos_token") if (source / name).is_file() else None
        token = token.get("content") if isinstance(token, dict) else token
        if isinstance(token, str) and token:
            return token
    return SEPARATOR


def call(source: Path, files: Path, prompts: bool = False) -> str:
    """The tokenizer of data for a directory's model.

    Args:
      source: the directory.
      files: where its files will be.
      prompts: whether to say too what it opens prompts and ends texts with.
    """
    path = _path(source, files)
    more = f", opens=True, ends={tuple(ends(source))}" if prompts else ""
    return NONE if path is None else f"file(path={str(path)!r}, separator={separator(source)!r}{more})"


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


def restore(workdir: Path, target: Path, template: Template) -> bool:
    """Puts a run's tokenizer into a directory; whether there was one that can be put there.

    Args:
      template: of the run; its special tokens are the tokenizer's, and its text in Jinja goes with it.
    """
    carried, own = workdir / FOLDER, read_tokenizer(workdir)
    inner = own.inner if isinstance(own, Extended) else own
    found = _copy(carried, target, CARRIED) if carried.is_dir() else []
    there = any(name.startswith(("tokenizer.", "vocab.", "tekken.")) for name in found)
    if not carried.is_dir() and isinstance(inner, Subwords):
        spec = json.loads(inner.to_json())
        (target / TOKENIZER).write_text(spec["spec"], "utf-8")
        _change(target / SETTINGS, {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": spec["separator"]})
        there = True
    if there and isinstance(own, Extended) and isinstance(inner, Subwords):
        there = _write_with_tokens(target / TOKENIZER, inner, own)
        if (target / GENERATION).exists():
            _change(target / GENERATION, {"eos_token_id": list(own.stop_ids)})
    if there and template.jinja:
        (target / JINJA).write_text(template.jinja, "utf-8")
        _change(target / SETTINGS, {"bos_token": template.begin} if template.begin else {})
    return there


def token_ids(workdir: Path, template: Template) -> dict[str, Any]:
    """The ids that a model begins, ends and fills up with: those that a run was imported with, else the separator of its
    tokenizer as the one that it ends with; and those of its template."""
    found = {name: carried_config(workdir).get(name) for name in TOKEN_IDS}
    own = read_tokenizer(workdir)
    if own is not None and all(value is None for value in found.values()):
        found["eos_token_id"] = own.separator
    if isinstance(own, Extended):
        found["eos_token_id"] = list(own.stop_ids)
    if own is not None and template.begin:
        found["bos_token_id"] = own.special(template.begin)
    return found


def _write_with_tokens(path: Path, inner: Subwords, own: Extended) -> bool:
    """Writes a ``tokenizer.json`` with the special tokens of ``own``; whether they can be its: not where one is spelt like
    another of its tokens, and no file is left then."""
    stored = json.loads(inner.to_json())
    spec = json.loads(stored["spec"])
    plain = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    added = [{"id": own.special(name), "content": name, **plain} for name in own.tokens]
    listed = [*(spec.get("added_tokens") or []), *added]
    spec["added_tokens"] = [
        {**token, "special": token["content"] in own.specials or token["special"]} for token in listed
    ]
    text = json.dumps(spec, ensure_ascii=False)
    try:
        Subwords(text, stored["separator"], TOKENIZER)
    except UserError:
        path.unlink(missing_ok=True)
        return False
    path.write_text(text, "utf-8")
    return True


def _change(path: Path, values: Mapping[str, Any]) -> None:
    """Sets keys of a JSON file, which need not be there."""
    before = read_json(path) if path.exists() else {}
    path.write_text(json.dumps({**before, **values}, indent=2) + "\n", "utf-8")


def carried_config(workdir: Path) -> dict[str, Any]:
    """The ``config.json`` that a run was imported with; empty where it was not."""
    path = workdir / FOLDER / CONFIG
    return read_json(path) if path.exists() else {}
