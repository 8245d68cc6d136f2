"""Subword tokenizers of the Hugging Face ``tokenizers`` library, and the one that reads its ``tokenizer.json``."""

import json
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gpt_jax.data import cache, vocab_files
from gpt_jax.data.tokenizers import SEPARATOR, Texts, writable
from gpt_jax.errors import UserError
from gpt_jax.registry import register
from gpt_jax.storage import local_path

BYTE = re.compile("<0x[0-9A-F]{2}>")  # a token of byte fallback
PRINTED = (*range(33, 127), *range(161, 173), *range(174, 256))  # bytes that are their own letters in byte-level tokens
LETTERS = (*map(chr, PRINTED), *(chr(256 + i) for i in range(256 - len(PRINTED))))
BYTE_OF = dict(zip(LETTERS, (*PRINTED, *(i for i in range(256) if i not in PRINTED)), strict=True))
PIECE = 1 << 16  # characters; enough pieces to occupy every core
# GPT-2's pattern always ends a match between a newline that stands alone and the text after it.
LONE_NEWLINE = re.compile(r"(?<=\S\n)(?=\S)")


class Subwords:
    """See ``Tokenizer``.

    Args:
      spec: the text of a tokenizer.json.
      separator: one of its tokens.
      where: for messages.
      opens: whether prompts begin with what the file's post-processor puts before a text.
      ends: ids that end a text, besides the separator.

    Raises:
      UserError: ``spec`` is no tokenizer, or one whose ids have no definite number of bytes.
    """

    def __init__(self, spec: str, separator: str, where: str, opens: bool = False, ends: Sequence[int] = ()):
        from tokenizers import Tokenizer, decoders

        try:
            self._tokenizer = Tokenizer.from_str(spec)
        except Exception as error:  # the library raises bare Exception
            raise UserError(f"{where} is not a tokenizer.json: {error}", where=where) from None
        self._tokenizer.encode_special_tokens = True  # in a text they are text
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        parsed = {"normalizer": None, "pre_tokenizer": None, **json.loads(spec)}
        parsed["added_tokens"] = parsed.get("added_tokens") or []
        if not parsed.get("decoder") and '"ByteLevel"' in json.dumps(parsed["pre_tokenizer"]):
            parsed["decoder"] = {"type": "ByteLevel"}
            self._tokenizer.decoder = decoders.ByteLevel()
        for token in parsed["added_tokens"]:
            # The library numbers them one after another, whatever their ids are.
            if self._tokenizer.token_to_id(token["content"]) != token["id"]:
                raise UserError(
                    f"the added token {token['content']!r} has the id {token['id']}, and there is a gap below it",
                    where=where,
                    fix="add tokens for the ids between",
                )
        self._added: dict[str, int] = {token["content"]: token["id"] for token in parsed["added_tokens"]}
        prompts = {"opens": opens, "ends": list(ends)} if opens or ends else {}
        self._json = json.dumps({"kind": "file", "spec": spec, "separator": separator, **prompts})
        self._splits_at_newlines = not parsed["normalizer"] and _is_gpt2_pattern(parsed["pre_tokenizer"])
        self.vocab = max(self._tokenizer.get_vocab(with_added_tokens=True).values()) + 1
        self.separator = self._tokenizer.token_to_id(separator)
        own = () if self.separator is None else (self.separator,)
        self.stop_ids = tuple(dict.fromkeys([*own, *ends]))
        added = _before(self._tokenizer.encode("a", add_special_tokens=True))
        self.opening = tuple(added) if opens else ()
        self.unopened = "" if opens else "".join(str(self._tokenizer.id_to_token(i)) for i in added)
        self._bytes = _token_bytes(parsed, self._tokenizer.get_vocab(with_added_tokens=True), self.vocab, where)
        self.byte_lengths = np.array([len(token) for token in self._bytes], np.int32)
        self.fused_ids = _fused(parsed, self._tokenizer.get_vocab(with_added_tokens=True))
        self.fingerprint = cache.digest(spec, separator)

    def encode(self, text: str) -> np.ndarray:
        return np.array(self._tokenizer.encode(writable(text), add_special_tokens=False).ids, np.int32)

    def encode_many(self, texts: list[str]) -> list[np.ndarray]:
        encodings = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        return [np.array(encoding.ids, np.int32) for encoding in encodings]

    def special(self, name: str) -> int | None:
        return self._added.get(name)

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

    def token_bytes(self) -> list[bytes]:
        return list(self._bytes)

    def to_json(self) -> str:
        return self._json


def restore(spec: str, separator: str, opens: bool = False, ends: Sequence[int] = ()) -> Subwords:
    return Subwords(spec, separator, "the stored tokenizer", opens, ends)


@register("data.tokenizers", "file", reads=("*.json", "/merges.txt"))
def file(
    texts: Texts, *, path: str, separator: str = SEPARATOR, opens: bool = False, ends: tuple[int, ...] = ()
) -> Subwords:
    """A ``tokenizer.json`` as Hugging Face models have it, or a folder with ``vocab.json`` and ``merges.txt``;
    ``separator`` names its token between documents.

    Args:
      opens: whether prompts begin with what the file puts before a text.
      ends: ids that end a text, besides the separator.

    Raises:
      UserError: no such file, or not one this can use.
    """
    return Subwords(read_spec(local_path(path, "config.data.tokenizer")), separator, path, opens, ends)


def read_spec(path: Path) -> str:
    """The text of a ``tokenizer.json``, or what the files of a folder amount to."""
    return vocab_files.spec(path) if vocab_files.has_files(path) else read_text(path)


def read_text(path: Path) -> str:
    """The text of a tokenizer's file, or a ``UserError`` that names it."""
    try:
        return path.read_text("utf-8-sig")  # some editors put a byte order mark first
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}", where="config.data.tokenizer") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 at byte {error.start}", where="config.data.tokenizer") from None


def _before(encoding: Any) -> list[int]:
    """The ids that a post-processor has put before a text."""
    first = next((i for i, special in enumerate(encoding.special_tokens_mask) if not special), 0)
    return encoding.ids[:first]


def _is_gpt2_pattern(pre_tokenizer: dict[str, Any] | None) -> bool:
    step = pre_tokenizer or {}
    return step.get("type") == "ByteLevel" and step.get("use_regex", True) and not step.get("add_prefix_space", True)


def _token_bytes(parsed: dict[str, Any], vocab: dict[str, int], size: int, where: str) -> list[bytes]:
    """Of each id. Byte-level tokens have one letter per byte; with byte fallback they are text, "▁" for a space."""
    decoder = json.dumps(parsed.get("decoder"))
    if '"ByteLevel"' in decoder:
        read: Callable[[str], bytes] = _of_letters
    elif '"ByteFallback"' in decoder:
        read = _of_fallback
    else:
        raise UserError(
            f"the tokens of {where} do not stand for a definite number of bytes, so bits per byte cannot be counted",
            where="config.data.tokenizer",
            allowed="a byte-level tokenizer (GPT-2, Llama 3, Qwen), or one with byte fallback (Gemma, Llama 2)",
        )
    added = {token["id"]: b"" if token["special"] else token["content"].encode() for token in parsed["added_tokens"]}
    found = [b""] * size
    for token, i in vocab.items():
        found[i] = added[i] if i in added else read(token)
    return found


def _fused(parsed: dict[str, Any], vocab: dict[str, int]) -> frozenset[int]:
    """The byte tokens, where the decoder makes characters of a row of them, or U+FFFD of each if the row is not UTF-8."""
    fallback = '"ByteFallback"' in json.dumps(parsed.get("decoder"))
    return frozenset(i for token, i in vocab.items() if fallback and BYTE.fullmatch(token))


def _of_letters(token: str) -> bytes:
    """A token with other letters than those of bytes is text, as the library decodes it."""
    try:
        return bytes(map(BYTE_OF.__getitem__, token))
    except KeyError:
        return token.encode()


def _of_fallback(token: str) -> bytes:
    return bytes([int(token[3:5], 16)]) if BYTE.fullmatch(token) else token.replace("▁", " ").encode()
