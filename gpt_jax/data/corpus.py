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
UNEVEN = "uneven.txt"  # the number of texts whose tokens' bytes do not add up
CHUNK = 4_000_000  # characters tokenised at once: bounds memory, and feeds every core


class Joined:
    """Several arrays of ids, read as one."""

    def __init__(self, arrays: list[np.ndarray]):
        self._arrays = arrays
        self._ends = np.cumsum([len(array) for array in arrays])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, part: slice) -> np.ndarray:
        begin, end, _ = part.indices(len(self))
        first, last = np.searchsorted(self._ends, [begin, end - 1], side="right")
        parts = []
        for array, stop in zip(self._arrays[first : last + 1], self._ends[first : last + 1], strict=True):
            start = stop - len(array)
            parts.append(array[max(begin - start, 0) : end - start])
        return np.concatenate(parts)


@dataclass(frozen=True)
class TokenArray:
    """One split: ids [N] (of any integer type, usually memory-mapped) and the ascending places where documents begin."""

    ids: np.ndarray | Joined
    starts: np.ndarray


@dataclass(frozen=True)
class TokenCorpus:
    """What a source of tokens returns, and what a source of text becomes: both splits, ids below ``vocab``.

    ``uneven`` counts the texts whose tokens' ``byte_lengths`` do not add up to the text's bytes: the tokenizer puts a space
    before them, or changes or loses characters.
    """

    train: TokenArray
    valid: TokenArray
    vocab: int
    digest: str
    uneven: int = 0


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
        uneven = 0
        for side, part in zip(("train", "valid"), documents.split(valid_fraction), strict=True):
            uneven += _write(part, tokenizer, None if documents.single else tokenizer.separator, dtype, folder, side)
        (folder / UNEVEN).write_text(str(uneven))

    # The key names the corpus in runs' fingerprints; the folder's name also says which files are in it.
    folder = cache.entry(root / "corpora", cache.digest(key, UNEVEN), build)
    train, valid = (
        TokenArray(memmap(folder / f"{side}.ids", dtype), memmap(folder / f"{side}.starts", np.dtype(np.int64)))
        for side in ("train", "valid")
    )
    return TokenCorpus(train, valid, tokenizer.vocab, key, int((folder / UNEVEN).read_text()))


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
) -> int:
    """Writes a side and returns how many pieces of it are uneven (see ``TokenCorpus``)."""
    starts, position, begun, uneven = [], 0, False, 0
    with open(folder / f"{side}.ids", "wb") as file:
        for ids, ends, even in _encoded(part, tokenizer, f"tokenising {side}"):
            uneven += not even
            if not begun:
                starts.append(position)
            begun = not ends
            if ends and separator is not None:
                ids = np.append(ids, separator)
            file.write(ids.astype(dtype).tobytes())
            position += len(ids)
    np.asarray(starts, np.int64).tofile(folder / f"{side}.starts")
    return uneven


def _encoded(part: Documents, tokenizer: Tokenizer, label: str) -> Iterator[tuple[np.ndarray, bool, bool]]:
    """(ids, whether a document ends with them, whether their bytes add up) of every piece of every document, in order."""
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


def _encode_chunk(chunk: list[tuple[str, bool]], tokenizer: Tokenizer) -> Iterator[tuple[np.ndarray, bool, bool]]:
    for ids, (piece, ends) in zip(tokenizer.encode_many([piece for piece, _ in chunk]), chunk, strict=True):
        yield ids, ends, tokenizer.byte_lengths[ids].sum() == len(piece.encode())
