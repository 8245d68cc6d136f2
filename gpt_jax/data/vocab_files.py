"""A byte-level tokenizer in several files: ``vocab.json``, ``merges.txt`` and the settings beside them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gpt_jax.data.tokenizers import SEPARATOR
from gpt_jax.errors import UserError

VOCAB, MERGES = "vocab.json", "merges.txt"
SETTINGS, SPECIAL, ADDED, MODEL = "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "config.json"
SPACE = "Ġ"  # byte 32 in byte-level vocabularies
NAMED = tuple(f"{name}_token" for name in ("bos", "eos", "unk", "pad", "sep", "cls", "mask"))
SEVERAL = ("additional_special_tokens", "extra_special_tokens")
NFC = {"type": "NFC"}
QWEN = r"""(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"""
# Class of transformers -> the normaliser and the pattern that it has; without a pattern GPT-2's.
SCHEMES: dict[str, tuple[dict | None, str]] = {
    "GPT2Tokenizer": (None, ""),
    "CodeGenTokenizer": (None, ""),
    "GPTNeoXTokenizer": (NFC, ""),
    "Qwen2Tokenizer": (NFC, QWEN),
}
CONVERT = "transformers' AutoTokenizer.from_pretrained(…).save_pretrained(…) writes a tokenizer.json"
OF_NONE = ("PreTrainedTokenizer", "PreTrainedTokenizerFast", "TokenizersBackend")  # classes that say nothing
OF_MODELS = {
    "gpt2": "GPT2Tokenizer",
    "gptj": "GPT2Tokenizer",
    "opt": "GPT2Tokenizer",
    "gpt_neox": "GPTNeoXTokenizer",
    "openai-gpt": "OpenAIGPTTokenizer",
    "qwen2": "Qwen2Tokenizer",
    "qwen3": "Qwen2Tokenizer",
}


def has_files(folder: Path) -> bool:
    """Whether a folder holds such a tokenizer."""
    return (folder / VOCAB).is_file() and (folder / MERGES).is_file()


def merges_of(text: str) -> list[tuple[str, str]]:
    """The pairs of a file of merges; its first line may be a version."""
    found = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip() or line.startswith("#version"):
            continue
        if len(pair := line.split()) != 2:
            raise ValueError(f"line {number} holds {len(pair)} words instead of two")
        found.append((pair[0], pair[1]))
    return found


def spec(folder: Path) -> str:
    """The ``tokenizer.json`` that the files of a folder amount to, as transformers 5 builds it.

    Raises:
      UserError: a file is missing or damaged, or the tokenizer is of another kind.
    """
    try:
        return json.dumps(_built(folder))
    except (TypeError, ValueError, AttributeError, KeyError) as error:
        raise UserError(f"a value is not of the type it should be: {error}", where=str(folder), fix=CONVERT) from error


def _built(folder: Path) -> dict[str, Any]:
    settings = {**_optional(folder / SPECIAL), **_optional(folder / SETTINGS)}
    normalizer, pattern = _scheme(folder, settings)
    vocab = _read(folder / VOCAB, json.loads)
    merges = _read(folder / MERGES, merges_of)
    if SPACE not in vocab:
        raise UserError("the vocabulary is not one of bytes", where=str(folder / VOCAB), fix=CONVERT)
    added = _added_tokens(folder, settings, vocab)
    bytes_first = {
        "type": "ByteLevel",
        "add_prefix_space": bool(settings.get("add_prefix_space")),
        "trim_offsets": True,
    }
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    steps = [split, {**bytes_first, "use_regex": False}]
    return {
        "version": "1.0",
        "added_tokens": added,
        "normalizer": normalizer,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": steps} if pattern else bytes_first,
        "post_processor": _around(settings, {token["content"]: token["id"] for token in added}),
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {"type": "BPE", "vocab": vocab, "merges": merges},
    }


def _scheme(folder: Path, settings: Mapping[str, Any]) -> tuple[dict | None, str]:
    model_type = _optional(folder / MODEL).get("model_type")
    name = settings.get("tokenizer_class")
    if name is None or name in OF_NONE:
        name = OF_MODELS.get(str(model_type), "GPT2Tokenizer")
    if name.removesuffix("Fast") not in SCHEMES:
        allowed = ", ".join(SCHEMES)
        raise UserError(f"a {name} cannot be made of two files", where=str(folder), allowed=allowed, fix=CONVERT)
    return SCHEMES[name.removesuffix("Fast")]


def _added_tokens(folder: Path, settings: Mapping[str, Any], vocab: Mapping[str, int]) -> list[dict[str, Any]]:
    """The tokens that are matched as a whole, by id: those with an id of their own, and those with a role."""
    listed = {int(i): _token(token) for i, token in (settings.get("added_tokens_decoder") or {}).items()}
    listed |= {i: _token(text) for text, i in _optional(folder / ADDED).items() if i not in listed}
    ids = {token["content"]: i for i, token in listed.items()}
    settings = {"eos_token": SEPARATOR if SEPARATOR in vocab else None, **settings}
    several = [t for name in SEVERAL for t in settings.get(name) or []]
    roles = [settings[name] for name in NAMED if settings.get(name)] + several
    for token in map(_token, roles):
        text = token["content"]
        if text not in ids:
            ids[text] = vocab.get(text, 1 + max([*vocab.values(), *ids.values()]))
        listed[ids[text]] = {**token, **listed.get(ids[text], {}), "special": True}
    return [{"id": i, **listed[i]} for i in sorted(listed)]


def _token(given: str | Mapping[str, Any]) -> dict[str, Any]:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
    values = {"content": given} if isinstance(given, str) else given
    return {**flags, **{key: values[key] for key in ("content", *flags) if key in values}}


def _around(settings: Mapping[str, Any], ids: Mapping[str, int]) -> dict[str, Any] | None:
    """The post-processor that puts tokens before and after a text."""
    whole: list[dict] = [{"Sequence": {"id": "A", "type_id": 0}}]
    special = {}
    for side, place in (("bos", 0), ("eos", 1)):
        token = settings.get(f"{side}_token")
        if settings.get(f"add_{side}_token") and token:
            text = _token(token)["content"]
            whole.insert(place * len(whole), {"SpecialToken": {"id": text, "type_id": 0}})
            special[text] = {"id": text, "ids": [ids[text]], "tokens": [text]}
    pair = [*whole, {"Sequence": {"id": "B", "type_id": 1}}]
    return {"type": "TemplateProcessing", "single": whole, "pair": pair, "special_tokens": special} if special else None


def _optional(path: Path) -> dict[str, Any]:
    return _read(path, json.loads) if path.is_file() else {}


def _read(path: Path, parse: Any) -> Any:
    try:
        return parse(path.read_text("utf-8-sig"))
    except OSError as error:
        raise UserError(f"{path.name} cannot be read: {error.strerror}", where=str(path)) from None
    except ValueError as error:
        raise UserError(f"{path.name} is not what its name says: {error}", where=str(path)) from None
