"""A tokenizer with special tokens of its own after another's ids: what a template writes and the other one lacks."""

import itertools
import json
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from gpt_jax.data import cache
from gpt_jax.data.tokenizers import Tokenizer, from_json
from gpt_jax.errors import UserError


class Extended:
    """See ``Tokenizer``.

    Args:
      inner: what texts are encoded with.
      tokens: names of the tokens that are added, in the order of their ids.
      specials: names of all tokens, of ``inner`` too, that no text may make.
      ends: those that end a text, besides the ones of ``inner``.

    Attributes:
      kept: ids of the tokens that ``inner`` would make of a text.
    """

    def __init__(self, inner: Tokenizer, tokens: Sequence[str], specials: Sequence[str], ends: Sequence[str]):
        self.inner, self.tokens = inner, tuple(tokens)
        self.vocab = inner.vocab + len(self.tokens)
        self.separator, self.opening = inner.separator, inner.opening
        self.unopened, self.fused_ids = inner.unopened, inner.fused_ids
        self.specials, self.ends = tuple(specials), tuple(ends)
        self.stop_ids = tuple(dict.fromkeys([*inner.stop_ids, *self._ids(ends)]))
        self.byte_lengths = np.pad(inner.byte_lengths, (0, len(self.tokens)))
        kept = [name for name in specials if name not in self.tokens and _is_made(inner, name)]
        self.kept = self._ids(kept)
        self.fingerprint = cache.digest("extended", inner.fingerprint, json.dumps([self.tokens, kept]))

    def encode(self, text: str) -> np.ndarray:
        ids = self.inner.encode(text)
        if len(text) < 2 or not np.isin(ids, self.kept).any():
            return ids
        # Some files have such a token as one that texts may make. A text that spells it is encoded in parts that do not.
        middle = len(text) // 2
        return np.concatenate([self.encode(text[:middle]), self.encode(text[middle:])])

    def encode_many(self, texts: list[str]) -> list[np.ndarray]:
        found = self.inner.encode_many(texts)
        makes = [bool(np.isin(ids, self.kept).any()) for ids in found]
        return [self.encode(text) if again else ids for text, ids, again in zip(texts, found, makes, strict=True)]

    def special(self, name: str) -> int | None:
        return self.inner.vocab + self.tokens.index(name) if name in self.tokens else self.inner.special(name)

    def pieces(self, text: str) -> list[str]:
        return self.inner.pieces(text)

    def decode(self, ids: Iterable[int]) -> str:
        first = self.inner.vocab
        parts = []
        for added, run in itertools.groupby(map(int, ids), lambda i: i >= first):
            if added:
                parts += [self.tokens[i - first] for i in run if i < self.vocab]
            else:
                parts.append(self.inner.decode(run))
        return "".join(parts)

    def token_bytes(self) -> list[bytes]:
        return [*self.inner.token_bytes(), *[b""] * len(self.tokens)]

    def to_json(self) -> str:
        own = {"tokens": self.tokens, "specials": self.specials, "ends": self.ends}
        return json.dumps({"kind": "extended", "inner": json.loads(self.inner.to_json()), **own})

    def _ids(self, names: Iterable[str]) -> list[int]:
        return [i for name in names if (i := self.special(name)) is not None]


def restore(inner: dict[str, Any], tokens: Sequence[str], specials: Sequence[str], ends: Sequence[str]) -> Extended:
    return Extended(from_json(json.dumps(inner)), tokens, specials, ends)


def extended(tokenizer: Tokenizer, specials: Sequence[str], end: str) -> Tokenizer:
    """A tokenizer that has all of these special tokens, and makes none of a text; itself, where it is such a one.

    Args:
      end: the one that ends a text; empty = the separator.
    """
    inner, tokens = tokenizer, _joined()
    ends = _joined([end] if end else [])
    if isinstance(tokenizer, Extended):
        inner, tokens = tokenizer.inner, tokenizer.tokens
        specials, ends = _joined(tokenizer.specials, specials), _joined(tokenizer.ends, ends)
    missing = [name for name in specials if tokenizer.special(name) is None]
    found = Extended(inner, (*tokens, *missing), specials, ends)
    same = (found.fingerprint, found.stop_ids) == (tokenizer.fingerprint, tokenizer.stop_ids)
    alike = not found.tokens and not found.kept and found.stop_ids == tokenizer.stop_ids
    return tokenizer if same or alike else found


def _joined(*names: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(itertools.chain(*names)))


def _is_made(tokenizer: Tokenizer, name: str) -> bool:
    """Whether a text that spells a special token becomes it, as with files that do not list it as special."""
    try:
        return tokenizer.special(name) in tokenizer.encode(name)
    except UserError:  # a text that cannot be written at all
        return False
