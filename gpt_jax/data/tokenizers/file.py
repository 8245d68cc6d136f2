"""Subword tokenizers of the Hugging Face ``tokenizers`` library, and the one that reads its ``tokenizer.json``."""

import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from gpt_jax.data import cache
from gpt_jax.data.tokenizers import SEPARATOR, Texts
from gpt_jax.errors import UserError
from gpt_jax.registry import register
from gpt_jax.storage import local_path

PIECE = 1 << 16  # characters; enough pieces to occupy every core
# GPT-2's pattern always ends a match between a newline that stands alone and the text after it.
LONE_NEWLINE = re.compile(r"(?<=\S\n)(?=\S)")


class Subwords:
    """See ``Tokenizer``; ``spec`` is the text of a tokenizer.json and ``separator`` one of its tokens.

    Raises:
      UserError: ``spec`` is no tokenizer, or one whose ids have no definite number of bytes.
    """

    def __init__(self, spec: str, separator: str, where: str):
        from tokenizers import Tokenizer

        try:
            self._tokenizer = Tokenizer.from_str(spec)
        except Exception as error:  # the library raises bare Exception
            raise UserError(f"{where} is not a tokenizer.json: {error}", where=where) from None
        self._tokenizer.encode_special_tokens = True  # in a text they are text
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        parsed = json.loads(spec)
        self._json = json.dumps({"kind": "file", "spec": spec, "separator": separator})
        self._splits_at_newlines = not parsed["normalizer"] and _is_gpt2_pattern(parsed["pre_tokenizer"])
        self.vocab = max(self._tokenizer.get_vocab(with_added_tokens=True).values()) + 1
        self.separator = self._tokenizer.token_to_id(separator)
        self.byte_lengths = _byte_lengths(parsed, self._tokenizer.get_vocab(with_added_tokens=True), self.vocab, where)
        self.fingerprint = cache.digest(spec, separator)

    def encode(self, text: str) -> np.ndarray:
        text = text.encode("utf-8", "replace").decode()  # a prompt may hold lone surrogates
        return np.array(self._tokenizer.encode(text, add_special_tokens=False).ids, np.int32)

    def encode_many(self, texts: list[str]) -> list[np.ndarray]:
        encodings = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        return [np.array(encoding.ids, np.int32) for encoding in encodings]

    def pieces(self, text: str) -> list[str]:
        if not text or not self._splits_at_newlines:
            return [text] if text else []
        parts, begin = [], 0
        while begin < len(text):
            cut = LONE_NEWLINE.search(text, begin + PIECE)
            end = cut.start() if cut else len(text)
            parts.append(text[begin:end])
            begin = end
        return parts

    def decode(self, ids: Iterable[int]) -> str:
        known = [i for i in map(int, ids) if 0 <= i < self.vocab]
        return self._tokenizer.decode(known, skip_special_tokens=False)

    def to_json(self) -> str:
        return self._json


def restore(spec: str, separator: str) -> Subwords:
    return Subwords(spec, separator, "the stored tokenizer")


@register("data.tokenizers", "file", reads=("*.json",))
def file(texts: Texts, *, path: str, separator: str = SEPARATOR) -> Subwords:
    """A ``tokenizer.json`` as Hugging Face models have it; ``separator`` names its token between documents.

    Raises:
      UserError: no such file, or not one this can use.
    """
    return Subwords(read_text(local_path(path, "config.data.tokenizer")), separator, path)


def read_text(path: Path) -> str:
    """The text of a tokenizer's file, or a ``UserError`` that names it."""
    try:
        return path.read_text("utf-8")
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}", where="config.data.tokenizer") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 at byte {error.start}", where="config.data.tokenizer") from None


def _is_gpt2_pattern(pre_tokenizer: dict[str, Any] | None) -> bool:
    step = pre_tokenizer or {}
    return step.get("type") == "ByteLevel" and step.get("use_regex", True) and not step.get("add_prefix_space", True)


def _byte_lengths(parsed: dict[str, Any], vocab: dict[str, int], size: int, where: str) -> np.ndarray:
    """[V] int32. Byte-level tokens have one letter per byte; with byte fallback they are text, "▁" for a space."""
    decoder = json.dumps(parsed["decoder"])
    if '"ByteLevel"' in decoder:
        length: Callable[[str], int] = len
    elif '"ByteFallback"' in decoder:
        length = _fallback_length
    else:
        raise UserError(
            f"the tokens of {where} do not stand for a definite number of bytes, so bits per byte cannot be counted",
            where="config.data.tokenizer",
            allowed="a byte-level tokenizer (GPT-2, Llama 3, Qwen), or one with byte fallback (Gemma, Llama 2)",
        )
    added = {token["id"]: 0 if token["special"] else len(token["content"].encode()) for token in parsed["added_tokens"]}
    lengths = np.zeros(size, np.int32)
    for token, i in vocab.items():
        lengths[i] = added[i] if i in added else length(token)
    return lengths


def _fallback_length(token: str) -> int:
    return 1 if re.fullmatch("<0x[0-9A-F]{2}>", token) else len(token.replace("▁", " ").encode())
