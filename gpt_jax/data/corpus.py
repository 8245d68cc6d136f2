"""A source's documents as token ids: written once into a memory-mapped cache, in the order of the documents."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gpt_jax import bars
from gpt_jax.data import cache
from gpt_jax.data.documents import Documents
from gpt_jax.data.tokenizers import Tokenizer
from gpt_jax.errors import UserError
from gpt_jax.storage import NO_MAPPING

FORMAT = 1  # raise it when what is written for the same input changes
BAR = "{l_bar}{bar}| {elapsed}<{remaining}"
CHUNK = 4_000_000  # characters tokenised at once: bounds memory, and feeds every core


@dataclass(frozen=True)
class TokenArray:
    """One split: ids [N] (uint16 or uint32, usually memory-mapped) and the ascending places where documents begin."""

    ids: np.ndarray
    starts: np.ndarray


@dataclass(frozen=True)
class TokenCorpus:
    """What a source of tokens returns, and what a source of text becomes: both splits, ids below ``vocab``."""

    train: TokenArray
    valid: TokenArray
    vocab: int
    digest: str


def open_corpus(documents: Documents, tokenizer: Tokenizer, valid_fraction: float, root: Path) -> TokenCorpus:
    """The documents' tokens, from the cache below ``root``, made now where they are not there.

    Several documents are each followed by the tokenizer's separator; a single text has none.

    Raises:
      UserError: several documents and a tokenizer without a separator, or text that cannot be read.
    """
    if not documents.single and tokenizer.separator is None:
        raise UserError(
            "the tokenizer has no token to put between documents",
            where="config.data.tokenizer",
            fix="name one of its tokens, as in file(path='tokenizer.json', separator='</s>')",
        )
    key = cache.digest(FORMAT, documents.digest, tokenizer.fingerprint, valid_fraction)
    dtype = np.dtype(np.uint16 if tokenizer.vocab <= 1 << 16 else np.uint32)

    def build(folder: Path) -> None:
        for side, part in zip(("train", "valid"), documents.split(valid_fraction), strict=True):
            _write(part, tokenizer, None if documents.single else tokenizer.separator, dtype, folder, side)

    folder = cache.entry(root / "corpora", key, build)
    train, valid = (
        TokenArray(memmap(folder / f"{side}.ids", dtype), memmap(folder / f"{side}.starts", np.dtype(np.int64)))
        for side in ("train", "valid")
    )
    return TokenCorpus(train, valid, tokenizer.vocab, key)


def memmap(path: Path, dtype: np.dtype, offset: int = 0) -> np.ndarray:
    """A file's items from byte ``offset`` on, read-only and mapped, or in memory where the file system cannot map files;
    an empty array where there are none."""
    if path.stat().st_size <= offset:
        return np.zeros(0, dtype)
    try:
        return np.memmap(path, dtype, "r", offset).view(np.ndarray)  # a plain view indexes faster
    except OSError as error:
        if error.errno not in NO_MAPPING:
            raise
        return np.fromfile(path, dtype, offset=offset)


def _write(
    part: Documents, tokenizer: Tokenizer, separator: int | None, dtype: np.dtype, folder: Path, side: str
) -> None:
    starts, position, begun = [], 0, False
    with open(folder / f"{side}.ids", "wb") as file:
        for ids, ends in _encoded(part, tokenizer, f"tokenising {side}"):
            if not begun:
                starts.append(position)
            begun = not ends
            if ends and separator is not None:
                ids = np.append(ids, separator)
            file.write(ids.astype(dtype).tobytes())
            position += len(ids)
    np.asarray(starts, np.int64).tofile(folder / f"{side}.starts")


def _encoded(part: Documents, tokenizer: Tokenizer, label: str) -> Iterator[tuple[np.ndarray, bool]]:
    """(ids, whether a document ends with them) of every piece of every document, in order."""
    chunk: list[tuple[str, bool]] = []
    size = 0
    with bars.bar(desc=label, total=len(part.names), leave=False, bar_format=BAR) as bar:
        for text in part.texts():
            pieces = tokenizer.pieces(text)
            for n, piece in enumerate(pieces, 1):
                chunk.append((piece, n == len(pieces)))
                size += len(piece)
                if size >= CHUNK:
                    yield from _encode_chunk(chunk, tokenizer)
                    chunk, size = [], 0
                bar.update(1 / len(pieces))
        yield from _encode_chunk(chunk, tokenizer)


def _encode_chunk(chunk: list[tuple[str, bool]], tokenizer: Tokenizer) -> Iterator[tuple[np.ndarray, bool]]:
    ids = tokenizer.encode_many([piece for piece, _ in chunk])
    return zip(ids, (ends for _, ends in chunk), strict=True)
