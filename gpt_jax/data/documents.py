"""Text as a list of named documents, held out by document or, where there is one document only, by position."""

import dataclasses
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from gpt_jax.data import cache
from gpt_jax.data.rows import holdout
from gpt_jax.errors import UserError

MOST_NUL = 100  # one byte in so many may be NUL in a text


@dataclass(frozen=True)
class Documents:
    """What a source of text returns.

    Attributes:
      names: of the documents, unique; they decide which are held out.
      read: the text of document i.
      digest: of all names and texts; the cache is keyed by it.
      heldout: the validation documents, where the source has such a split of its own.
    """

    names: tuple[str, ...]
    read: Callable[[int], str]
    digest: str
    heldout: "Documents | None" = None

    @property
    def single(self) -> bool:
        """Whether this is one text that is cut in two, so that no separator is ever needed."""
        return len(self.names) == 1 and self.heldout is None

    def texts(self) -> Iterator[str]:
        return (self.read(i) for i in range(len(self.names)))

    def split(self, valid_fraction: float) -> tuple["Documents", "Documents"]:
        """(train, valid). Of one document the last ``valid_fraction`` of its characters, as nanoGPT does; of several
        those whose name hashes below it, so that a document keeps its side when others come or go; never none."""
        if self.heldout is not None:
            return dataclasses.replace(self, heldout=None), self.heldout
        if self.single:
            text = self.read(0)
            cut = int(len(text) * (1 - valid_fraction))
            return self._part("train", [text[:cut]]), self._part("valid", [text[cut:]])
        held = holdout.held([_draw(name) for name in self.names], valid_fraction)
        valid = [i for i, out in enumerate(held) if out]
        train = [i for i, out in enumerate(held) if not out]
        return self._subset("train", train), self._subset("valid", valid)

    def sample(self, characters: int) -> Iterator[str]:
        """Documents in an order that depends on their names alone, until so many characters are reached."""
        for i in sorted(range(len(self.names)), key=lambda i: _draw(self.names[i] + "\0sample")):
            text = self.read(i)[:characters]
            yield text
            characters -= len(text)
            if characters <= 0:
                return

    def _part(self, side: str, texts: list[str]) -> "Documents":
        return Documents(self.names, texts.__getitem__, cache.digest(self.digest, side))

    def _subset(self, side: str, which: list[int]) -> "Documents":
        names = tuple(self.names[i] for i in which)
        return Documents(names, lambda i: self.read(which[i]), cache.digest(self.digest, side, *names))


def from_files(paths: list[Path], names: list[str]) -> Documents:
    """Documents read from UTF-8 files; empty files are left out.

    Raises:
      UserError: a file cannot be read, or is not UTF-8 text.
    """
    state = hashlib.sha256()
    kept: list[tuple[Path, str]] = []
    for path, name in zip(paths, names, strict=True):
        data = read_bytes(path)
        state.update(f"{name}\0{len(data)}\0".encode("utf-8", "surrogateescape"))
        state.update(data)
        decode(data, str(path))  # now, rather than after the files before it have been tokenised
        if data:
            kept.append((path, name))
    return Documents(
        names=tuple(name for _, name in kept),
        read=lambda i: decode(read_bytes(kept[i][0]), str(kept[i][0])),
        digest=state.hexdigest(),
    )


def read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}", where="config.data.source") from None


def decode(data: bytes, name: str) -> str:
    """Strict UTF-8; an error names the file and the byte offset. Many NUL bytes mean UTF-16 or a binary file; a few are
    characters of a text like others."""
    fix = "convert the file to UTF-8, or choose the text files with a glob such as text(path='folder/**/*.txt')"
    nuls = data.count(b"\0")
    if nuls * MOST_NUL > len(data):
        at = data.find(b"\0")
        raise UserError(
            f"{name} is UTF-16 or a binary file: {nuls} of its {len(data)} bytes are NUL, the first is byte {at}",
            where=f"{name}, byte {at}",
            fix=fix,
        )
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        bad = f"byte {error.start} (0x{data[error.start]:02x})"
        raise UserError(f"{name} is not UTF-8: {error.reason} at {bad}", where=f"{name}, {bad}", fix=fix) from None


def _draw(name: str) -> float:
    return holdout.draw(name.encode("utf-8", "surrogateescape"))
