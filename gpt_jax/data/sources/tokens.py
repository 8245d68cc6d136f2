"""Token files of other programs: nanoGPT's raw uint16, llm.c's, which have a header, and NumPy's .npy."""

import hashlib
from pathlib import Path
from typing import Annotated

import numpy as np

from gpt_jax.config import Config
from gpt_jax.data import cache
from gpt_jax.data.corpus import TokenArray, TokenCorpus, memmap
from gpt_jax.errors import UserError
from gpt_jax.limits import Limits, Or, Rows
from gpt_jax.registry import register

HEADER = 256  # int32 words: magic, version, number of tokens, unused
LLMC: dict[int, tuple[int, np.dtype]] = {
    20240520: (1, np.dtype(np.uint16)),
    20240801: (7, np.dtype(np.uint32)),
}  # magic: (version, type of a token)
NPY = b"\x93NUMPY"  # how every .npy file begins
CHUNK = 1 << 24  # tokens checked at once


@register("data.sources", "tokens", reads=("*.bin", "*.npy", "/*.bin"))
def tokens(
    config: Config, *, path: str, vocab: Rows, separator: Annotated[int, Limits(0, 2**32 - 1), Or(-1, "none")] = -1
) -> TokenCorpus:
    """A folder with one ``*train*.bin`` and one ``*val*.bin``, or one file (.bin or .npy) whose end is held out.

    Args:
      vocab: ids are below it.
      separator: the id between documents (50256 for GPT-2's tokens), which data.pack="segments" needs.

    Raises:
      UserError: a file is missing, empty, cut, of another format, or holds an id that is not below ``vocab``.
    """
    root = Path(path).expanduser()
    if config.data.pack == "segments" and separator < 0:
        raise UserError(
            "data.pack = 'segments' needs to know where documents end",
            where="config.data.source",
            fix="give the id between documents: tokens(..., separator=50256) for GPT-2's tokens",
        )
    if root.is_dir():
        parts = [_load(_only(root, f"*{side}*.bin"), vocab, separator) for side in ("train", "val")]
        (train, first), (valid, second) = parts
        return TokenCorpus(train, valid, vocab, cache.digest(first, second, separator))
    whole, digest = _load(root, vocab, separator)
    cut = int(len(whole.ids) * (1 - config.data.valid_fraction))
    train, valid = _slice(whole, 0, cut), _slice(whole, cut, len(whole.ids))
    return TokenCorpus(train, valid, vocab, cache.digest(digest, separator, cut))


def _only(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        raise UserError(
            f"{folder} has {len(found)} files {pattern}",
            where="config.data.source",
            allowed="a folder with one *train*.bin and one *val*.bin, or one file",
        )
    return found[0]


def _load(path: Path, vocab: int, separator: int) -> tuple[TokenArray, str]:
    ids = _open(path)
    state = hashlib.sha256()
    starts = [np.zeros(1, np.int64)]
    for begin in range(0, len(ids), CHUNK):
        chunk = ids[begin : begin + CHUNK]
        state.update(chunk.tobytes())
        if chunk.max() >= vocab:
            at = begin + int(np.argmax(chunk >= vocab))
            raise UserError(
                f"{path} holds the id {ids[at]} at token {at}",
                where=f"{path}, token {at}",
                allowed=f"ids below vocab = {vocab}",
                fix="give the vocabulary's true size: tokens(..., vocab=50257) for GPT-2's tokens",
            )
        starts.append(np.flatnonzero(chunk == separator) + (begin + 1))
    joined = np.concatenate(starts)
    return TokenArray(ids, joined[joined < len(ids)]), state.hexdigest()


def _open(path: Path) -> np.ndarray:
    try:
        size = path.stat().st_size
        with open(path, "rb") as file:
            begin = file.read(12)
            head = np.frombuffer(begin, "<i4", count=-1 if size >= 12 else 0)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}", where="config.data.source") from None
    if len(head) and int(head[0]) in LLMC:
        return _open_llmc(path, size, *map(int, head))
    if begin.startswith(NPY):
        return _open_npy(path)
    if size == 0 or size % 2:
        raise UserError(
            f"{path} has {size} bytes, which is no whole number of 2-byte tokens" if size else f"{path} is empty",
            where=str(path),
            allowed="nanoGPT's raw uint16 tokens, llm.c's format with its header, or a .npy array",
        )
    return memmap(path, np.dtype("<u2"))


def _open_npy(path: Path) -> np.ndarray:
    try:
        ids = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is damaged: {error}", where=str(path)) from None
    if ids.ndim != 1 or ids.dtype.kind != "u" or not len(ids):
        shape = "x".join(map(str, ids.shape))
        raise UserError(
            f"{path} is an array {shape} of {ids.dtype}", where=str(path), allowed="one axis of uint16 or uint32"
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
    inside = whole.starts[(whole.starts > begin) & (whole.starts < end)] - begin
    return TokenArray(whole.ids[begin:end], np.concatenate([np.zeros(1, np.int64), inside]))
