"""Token files of other programs: raw ids as nanoGPT's uint16, llm.c's, which have a header, and NumPy's .npy."""

import dataclasses
import hashlib
from pathlib import Path
from typing import Annotated

import numpy as np

from gpt_jax.config import Config
from gpt_jax.data import cache
from gpt_jax.data.corpus import Joined, TokenArray, TokenCorpus, memmap
from gpt_jax.errors import UserError
from gpt_jax.limits import Limits, Or, Rows
from gpt_jax.registry import register
from gpt_jax.storage import local_path

HEADER = 256  # int32 words: magic, version, number of tokens, unused
LLMC: dict[int, tuple[int, np.dtype]] = {
    20240520: (1, np.dtype(np.uint16)),
    20240801: (7, np.dtype(np.uint32)),
}  # magic: (version, type of a token)
NPY = b"\x93NUMPY"  # how every .npy file begins
FOREIGN = {  # how files begin that hold no plain ids
    b"PK\x03\x04": "a zip archive, as .npz and .pt files are",
    b"\x1f\x8b\x08": "a gzip file",
    b"\x28\xb5\x2f\xfd": "a zstd file",
    b"MMIDIDX\0": "an index of Megatron's",
    b"PAR1": "a Parquet file",
    b"ARROW1": "an Arrow file",
}
TYPES = ("uint16", "uint32", "int32", "int64")  # of raw ids
FORMATS = "raw ids, llm.c's format with its header, or a .npy array"
WHERE = "config.data.source"
SUFFIXES = (".bin", ".npy")
FOLDER = "a folder with *train* and *val* files that end with .bin or .npy, or one such file"
CHUNK = 1 << 24  # tokens checked at once


@register("data.sources", "tokens", reads=("*.bin", "*.npy", "/*.bin", "/*.npy"))
def tokens(
    config: Config,
    *,
    path: str,
    vocab: Rows,
    separator: Annotated[int, Limits(0, 2**32 - 1), Or(-1, "none")] = -1,
    dtype: str = "",
) -> TokenCorpus:
    """A folder with ``*train*`` and ``*val*`` files, several of either in the order of their names, or one file whose end is
    held out. Files are .bin or .npy.

    Args:
      vocab: ids are below it.
      separator: the id between documents (50256 for GPT-2's tokens), which data.pack="segments" needs.
      dtype: of ids in files that do not say it: uint16, uint32, int32 or int64; empty = uint16, where that can be right.

    Raises:
      UserError: a file is missing, empty, cut, of another format or type, or holds an id that is not below ``vocab``.
    """
    root = local_path(path, "config.data.source")
    if dtype and dtype not in TYPES:
        raise UserError(f"dtype={dtype!r} is no type of ids", where=WHERE, allowed=", ".join(TYPES))
    expected = Expected(vocab, dtype)
    if config.data.pack == "segments" and separator < 0:
        raise UserError(
            "data.pack = 'segments' needs to know where documents end",
            where=WHERE,
            fix="give the id between documents: tokens(..., separator=50256) for GPT-2's tokens",
        )
    if root.is_dir():
        (train, first), (valid, second) = (_load(paths, expected, separator) for paths in _sides(root))
        return TokenCorpus(train, valid, vocab, cache.digest(first, second, separator))
    whole, digest = _load([root], expected, separator)
    cut = int(len(whole.ids) * (1 - config.data.valid_fraction))
    train, valid = _slice(whole, 0, cut), _slice(whole, cut, len(whole.ids))
    return TokenCorpus(train, valid, vocab, cache.digest(digest, separator, cut))


@dataclasses.dataclass(frozen=True)
class Expected:
    """What files are said to hold: ids below ``vocab``, of ``dtype`` (empty = as the file says)."""

    vocab: int
    dtype: str


def _sides(folder: Path) -> tuple[list[Path], list[Path]]:
    """The files of training and those of validation."""
    train, valid = (
        sorted(path for path in folder.glob(f"*{side}*") if path.suffix in SUFFIXES) for side in ("train", "val")
    )
    for side, found in (("train", train), ("val", valid)):
        if not found:
            raise UserError(f"{folder} has no file *{side}*.bin or *{side}*.npy", where=WHERE, allowed=FOLDER)
    if both := set(train) & set(valid):
        name = min(both).name
        raise UserError(f"the name {name} says both train and val", where=str(folder), allowed=FOLDER, fix="rename it")
    return train, valid


def _load(paths: list[Path], expected: Expected, separator: int) -> tuple[TokenArray, str]:
    """The ids of several files as one corpus."""
    state = hashlib.sha256()
    starts, arrays, before = [np.zeros(1, np.int64)], [], 0
    for path in paths:
        ids = _open(path, expected)
        for begin in range(0, len(ids), CHUNK):
            chunk = ids[begin : begin + CHUNK]
            state.update(np.ascontiguousarray(chunk).data)
            if chunk.min() < 0 or chunk.max() >= expected.vocab:
                raise _outside(
                    path, ids, begin + int(np.argmax((chunk < 0) | (chunk >= expected.vocab))), expected.vocab
                )
            if separator >= 0:
                starts.append(np.flatnonzero(chunk == separator) + (before + begin + 1))
        arrays.append(ids)
        before += len(ids)
    joined = np.concatenate(starts)
    return TokenArray(arrays[0] if len(arrays) == 1 else Joined(arrays), joined[joined < before]), state.hexdigest()


def _outside(path: Path, ids: np.ndarray, at: int, vocab: int) -> UserError:
    return UserError(
        f"{path} holds the id {ids[at]} at token {at}",
        where=f"{path}, token {at}",
        allowed=f"ids below vocab = {vocab}",
        fix="give the vocabulary's true size: tokens(..., vocab=50257) for GPT-2's tokens; or the type of the file's ids: "
        f"dtype={' or '.join(map(repr, TYPES))}",
    )


def _open(path: Path, expected: Expected) -> np.ndarray:
    ids = _read(path, expected)
    if expected.dtype and ids.dtype != np.dtype(expected.dtype):
        raise UserError(f"{path} says that its ids are {ids.dtype}, not {expected.dtype}", where=str(path))
    return ids


def _read(path: Path, expected: Expected) -> np.ndarray:
    try:
        size = path.stat().st_size
        with open(path, "rb") as file:
            begin = file.read(12)
            head = np.frombuffer(begin, "<i4", count=-1 if size >= 12 else 0)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}", where=WHERE) from None
    if len(head) and int(head[0]) in LLMC:
        return _open_llmc(path, size, *map(int, head))
    if begin.startswith(NPY):
        return _open_npy(path)
    foreign = next((what for magic, what in FOREIGN.items() if begin.startswith(magic)), None)
    if foreign and not expected.dtype:
        raise UserError(f"{path} is {foreign}", where=str(path), allowed=FORMATS)
    return _open_raw(path, size, expected)


def _open_raw(path: Path, size: int, expected: Expected) -> np.ndarray:
    """Ids without a header. Read as uint16 for want of a type, they must be possible: all of them below 65,536, and not
    every second one a zero, which is what the upper halves of wider ids look like."""
    dtype = np.dtype(expected.dtype or "uint16").newbyteorder("<")
    if size == 0 or size % dtype.itemsize:
        raise UserError(
            f"{path} has {size} bytes, which is no whole number of {dtype.itemsize}-byte tokens"
            if size
            else f"{path} is empty",
            where=str(path),
            allowed=FORMATS,
        )
    ids = memmap(path, dtype)
    wider = expected.vocab > 1 << 16 or (len(ids) > 1 and not ids[1:CHUNK:2].any() and ids[:CHUNK:2].any())
    if wider and not expected.dtype:
        raise UserError(
            f"{path} does not say of which type its ids are, and they look wider than uint16"
            if expected.vocab <= 1 << 16
            else f"{path} does not say of which type its ids are, and uint16 cannot hold {expected.vocab} of them",
            where=str(path),
            fix="give it: tokens(..., dtype='uint32'), or uint16, int32, int64",
        )
    return ids


def _open_npy(path: Path) -> np.ndarray:
    try:
        ids = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # besides its own, the library raises those of the parser of its header
        raise UserError(f"{path} is damaged: {error}", where=str(path)) from None
    if ids.ndim != 1 or ids.dtype.kind not in "ui" or not len(ids):
        shape = "x".join(map(str, ids.shape))
        raise UserError(
            f"{path} is an array {shape} of {ids.dtype}", where=str(path), allowed="one axis of whole numbers"
        )
    return ids.view(np.ndarray)


def _open_llmc(path: Path, size: int, magic: int, version: int, count: int) -> np.ndarray:
    known, dtype = LLMC[magic]
    if version != known:
        raise UserError(
            f"{path} is llm.c's format {magic} in version {version}", where=str(path), allowed=f"version {known}"
        )
    expected = 4 * HEADER + count * dtype.itemsize
    if size != expected or count == 0:
        raise UserError(
            f"{path} is damaged: its header says {count} tokens, so {expected} bytes, and it has {size}",
            where=str(path),
            fix="write or fetch the file again",
        )
    return memmap(path, dtype, 4 * HEADER)


def _slice(whole: TokenArray, begin: int, end: int) -> TokenArray:
    assert isinstance(whole.ids, np.ndarray)  # of one file
    inside = whole.starts[(whole.starts > begin) & (whole.starts < end)] - begin
    return TokenArray(whole.ids[begin:end], np.concatenate([np.zeros(1, np.int64), inside]))
