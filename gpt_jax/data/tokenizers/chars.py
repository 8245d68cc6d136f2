"""Every character of the source is an id, in the order of code points, as in nanoGPT."""

import json
from collections.abc import Iterable

import numpy as np

from gpt_jax.data import cache
from gpt_jax.data.tokenizers import SEPARATOR, Texts, Tokenizer, trained
from gpt_jax.errors import UserError
from gpt_jax.registry import register

PIECE = 1 << 20


class Chars:
    """See ``Tokenizer``; an id per character of ``alphabet`` (ascending); ``separated`` adds one between documents."""

    opening: tuple[int, ...] = ()
    unopened = ""
    fused_ids: frozenset[int] = frozenset()

    def __init__(self, alphabet: str, separated: bool):
        self._codes = _code_points(alphabet)
        self._texts = [*alphabet, *([SEPARATOR] if separated else [])]
        self._json = json.dumps({"kind": "chars", "alphabet": alphabet, "separated": separated})
        self.vocab = len(self._texts)
        self.separator = len(alphabet) if separated else None
        self.stop_ids = (len(alphabet),) * separated
        self.byte_lengths = np.array([len(c.encode()) for c in alphabet] + [0] * separated, np.int32)
        self.fingerprint = cache.digest(self._json)

    def encode(self, text: str) -> np.ndarray:
        """ids [T] int32.

        Raises:
          UserError: a character that the source does not have.
        """
        codes = _code_points(text)
        ids = np.searchsorted(self._codes, codes).clip(max=len(self._codes) - 1)
        unknown = np.flatnonzero(self._codes[ids] != codes)
        if len(unknown):
            i = int(unknown[0])
            raise UserError(
                f"character {text[i]!r} (number {i} of the text) does not occur in the training text",
                where=f"character {i} of {text[:40]!r}",
                allowed=f"the {len(self._codes)} characters {''.join(self._texts[: len(self._codes)])[:200]!r}",
                fix="use characters of the training text, or a tokenizer that can write any text: bytes, bpe",
            )
        return ids.astype(np.int32)

    def encode_many(self, texts: list[str]) -> list[np.ndarray]:
        return [self.encode(text) for text in texts]

    def special(self, name: str) -> int | None:
        return self.separator if name == SEPARATOR else None

    def pieces(self, text: str) -> list[str]:
        return [text[i : i + PIECE] for i in range(0, len(text), PIECE)]

    def decode(self, ids: Iterable[int]) -> str:
        return "".join(self._texts[i] for i in map(int, ids) if 0 <= i < self.vocab)

    def token_bytes(self) -> list[bytes]:
        return [b"" if i == self.separator else text.encode() for i, text in enumerate(self._texts)]

    def to_json(self) -> str:
        return self._json


def restore(alphabet: str, separated: bool) -> Chars:
    return Chars(alphabet, separated)


@register("data.tokenizers", "chars")
def chars(texts: Texts) -> Tokenizer:
    """The characters of the whole source (held-out text too, as in nanoGPT, so that all of it can be encoded)."""

    def train() -> Chars:
        alphabet: set[str] = set()
        for text in texts.everything():
            alphabet.update(text)
        return Chars("".join(sorted(alphabet)), texts.separated)

    return trained(texts, "chars", train)


def _code_points(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
