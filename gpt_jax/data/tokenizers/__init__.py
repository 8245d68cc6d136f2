"""How text becomes ids: one file per tokenizer, each a function ``name(texts, **arguments) -> Tokenizer``."""

import importlib
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from gpt_jax.data import cache
from gpt_jax.data.documents import Documents
from gpt_jax.errors import UserError

SURROGATES = re.compile("[\ud800-\udfff]")
SEPARATOR = "<|endoftext|>"  # how the token between documents is written, unless a tokenizer file names its own


class Tokenizer(Protocol):
    """Text to ids below ``vocab`` and back.

    Attributes:
      vocab: number of ids.
      separator: id of the token between documents, or None.
      stop_ids: ids that end a text that is being written: the separator, and others that a pretrained model ends with.
      opening: ids that every prompt begins with, such as <s> where a pretrained model expects it.
      unopened: such tokens, as text, where the tokenizer's file would add them and documents and prompts here do without.
      fused_ids: ids that stand for single bytes and are decoded as a row, so that a later one can change what they become.
      byte_lengths: [V] int32, the UTF-8 bytes each id stands for; 0 for special tokens. Bits per byte divide by
        them, and are left out for a text whose ids' lengths do not add up to its bytes.
      fingerprint: changes when any text would be encoded otherwise.
    """

    vocab: int
    separator: int | None
    stop_ids: tuple[int, ...]
    opening: tuple[int, ...]
    unopened: str
    fused_ids: frozenset[int]
    byte_lengths: np.ndarray
    fingerprint: str

    def encode(self, text: str) -> np.ndarray:
        """ids [T] int32 of a text; special tokens written in it are read as plain text."""
        ...

    def encode_many(self, texts: list[str]) -> list[np.ndarray]:
        """``encode`` of each, on all cores where that helps."""
        ...

    def special(self, name: str) -> int | None:
        """The id of a special token by how it is written; None where there is none."""
        ...

    def pieces(self, text: str) -> list[str]:
        """The text in parts whose encodings, joined, are the encoding of the whole."""
        ...

    def decode(self, ids: Iterable[int]) -> str:
        """Text of ids; bytes that are not UTF-8 become U+FFFD, ids beyond the vocabulary nothing."""
        ...

    def token_bytes(self) -> list[bytes]:
        """The UTF-8 bytes of each id; none of special tokens."""
        ...

    def to_json(self) -> str:
        """All of the tokenizer; ``from_json`` reads it."""
        ...


def writable(text: str) -> str:
    """The text with U+FFFD for lone surrogates, which UTF-8 cannot write: terminals and JSON may hold some."""
    return SURROGATES.sub("\N{REPLACEMENT CHARACTER}", text)


@dataclass(frozen=True)
class Texts:
    """What a tokenizer is made from: the documents of all sources; none where a model's is opened apart from data."""

    sources: tuple[Documents, ...]
    valid_fraction: float
    cache: Path

    @property
    def separated(self) -> bool:
        """Whether documents will be joined with a separator."""
        return not all(source.single for source in self.sources)

    @property
    def required(self) -> tuple[Documents, ...]:
        """The sources.

        Raises:
          UserError: there are none.
        """
        if not self.sources:
            raise UserError(
                "a tokenizer that is made from texts cannot be made here, where there are none",
                where="config.data.tokenizer",
                allowed="one that needs none, as file(path='tokenizer.json'), or run(path='runs/x') of a run that made it",
            )
        return self.sources

    def everything(self) -> Iterator[str]:
        for source in self.required:
            yield from source.texts()
            if source.heldout is not None:
                yield from source.heldout.texts()

    def training_sample(self, characters: int) -> Iterator[str]:
        """Training documents of every source, up to so many characters in all."""
        for source in self.required:
            yield from source.split(self.valid_fraction)[0].sample(characters // len(self.sources))


def trained(texts: Texts, call: str, train: Callable[[], Tokenizer]) -> Tokenizer:
    """The tokenizer that ``train`` makes, from the cache where the same call was made with the same texts."""
    key = cache.digest(call, texts.valid_fraction, *(source.digest for source in texts.required))

    def build(folder: Path) -> None:
        (folder / "tokenizer.json").write_text(train().to_json(), "utf-8")

    return from_json((cache.entry(texts.cache / "tokenizers", key, build) / "tokenizer.json").read_text("utf-8"))


def from_json(text: str) -> Tokenizer:
    """The tokenizer whose ``to_json`` this is: {"kind": a file of this folder, and what its ``restore`` takes}."""
    values: dict[str, Any] = json.loads(text)
    module = importlib.import_module(f"gpt_jax.data.tokenizers.{values.pop('kind')}")
    return module.restore(**values)
