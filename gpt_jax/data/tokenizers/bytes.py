"""Every UTF-8 byte is an id; 256 stands between documents."""

import json
from collections.abc import Iterable

import numpy as np

from gpt_jax.data import cache
from gpt_jax.data.tokenizers import SEPARATOR, Texts, writable
from gpt_jax.registry import register

PIECE = 1 << 20


class Bytes:
    """See ``Tokenizer``; 257 ids."""

    vocab = 257
    separator = 256
    stop_ids: tuple[int, ...] = (256,)
    opening: tuple[int, ...] = ()
    unopened = ""
    fused_ids: frozenset[int] = frozenset()
    byte_lengths = np.array([1] * 256 + [0], np.int32)
    fingerprint = cache.digest("bytes")

    def encode(self, text: str) -> np.ndarray:
        return np.frombuffer(writable(text).encode(), np.uint8).astype(np.int32)

    def encode_many(self, texts: list[str]) -> list[np.ndarray]:
        return [self.encode(text) for text in texts]

    def special(self, name: str) -> int | None:
        return self.separator if name == SEPARATOR else None

    def pieces(self, text: str) -> list[str]:
        return [text[i : i + PIECE] for i in range(0, len(text), PIECE)]

    def decode(self, ids: Iterable[int]) -> str:
        raw = b"".join(bytes([i]) if i < 256 else SEPARATOR.encode() for i in map(int, ids) if 0 <= i < self.vocab)
        return raw.decode("utf-8", "replace")

    def token_bytes(self) -> list[bytes]:
        return [*(bytes([i]) for i in range(256)), b""]

    def to_json(self) -> str:
        return json.dumps({"kind": "bytes"})


def restore() -> Bytes:
    return Bytes()


@register("data.tokenizers", "bytes")
def byte_tokenizer(texts: Texts) -> Bytes:
    """The 256 bytes and a separator; needs no training and encodes anything."""
    return Bytes()
