"""A file of JSON lines, a text each, that grows while texts are written and is continued where it ended."""

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpt_jax.errors import UserError
from gpt_jax.sample.outputs.requests import Request
from gpt_jax.sample.searches.chosen import chosen
from gpt_jax.storage import NO_LOCKS, make_folder, writing

FREE = ("prompts", "templated", "rows", "num_return_sequences")  # settings that leave a single text as it is
BEGIN = b'{"prompt"'  # of every line
KEY = "settings"  # of a line: the digest of what its text depends on


@dataclass(frozen=True)
class Records:
    """Where such a file is, and a text that changes with the model that writes.

    In the file are the first texts of those that are asked for, in their order. Whenever the machine stops, its lines are
    whole, but for the last one perhaps, which is then written anew.
    """

    path: Path
    model: str

    @contextlib.contextmanager
    def open(self, asked: Sequence[Request]) -> Iterator["OpenRecords"]:
        """The file, made if need be, while no other process writes to it.

        Raises:
          UserError: it is of other texts or settings, or another process writes to it.
          StorageError: it cannot be read or written.
        """
        several = [request for request in asked if request.sample.num_return_sequences > 1]
        if several and chosen(several[0].sample) is not None:
            raise UserError(
                "a search may find fewer texts than are asked for, so that a file of them cannot be continued",
                where=f"--to, {several[0].prompt.where}, config.sample.num_return_sequences",
                fix="num_return_sequences = 1, or without --to",
            )
        make_folder(self.path.parent)
        with writing(self.path):
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            self._lock(descriptor)
            yield OpenRecords(self, descriptor, self._checked(descriptor, asked))
        finally:
            os.close(descriptor)

    def digest(self, request: Request) -> str:
        """Of all that a text depends on."""
        settings = {name: value for name, value in dataclasses.asdict(request.sample).items() if name not in FREE}
        parts = (self.model, request.prompt.ids, request.length, request.seed, settings)
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]

    def _checked(self, descriptor: int, asked: Sequence[Request]) -> int:
        """How many texts the file holds; a last line that is not whole is taken off."""
        with writing(self.path), open(os.dup(descriptor), "rb") as file:
            *lines, torn = file.read().split(b"\n")
        wrong = [i for i, line in enumerate(lines[: len(asked)]) if _key(line) != self.digest(asked[i])]
        if wrong or torn[: len(BEGIN)] != BEGIN[: len(torn)]:
            raise UserError(
                f"line {(wrong or [len(lines)])[0] + 1} of {self.path} is no text of this command: "
                "it has another prompt, model or settings",
                where="--to",
                fix="give another file, or remove this one",
            )
        if len(lines) > len(asked):
            raise UserError(
                f"{self.path} holds {len(lines)} texts, and {len(asked)} are asked for",
                where="--to",
                fix="give another file, or remove this one",
            )
        with writing(self.path):
            os.ftruncate(descriptor, os.fstat(descriptor).st_size - len(torn))
        return len(lines)

    def _lock(self, descriptor: int) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"another process writes to {self.path}", where="--to", fix="give another file") from None
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise


@dataclass(frozen=True)
class OpenRecords:
    """See ``Records``; ``count`` texts were there when it was opened."""

    records: Records
    descriptor: int
    count: int

    def append(self, request: Request, record: dict[str, Any]) -> None:
        """Adds a line, which is on the disk when this returns.

        Raises:
          StorageError: the disk refuses.
        """
        line = json.dumps({**record, KEY: self.records.digest(request)}, ensure_ascii=False).encode() + b"\n"
        with writing(self.records.path):
            os.lseek(self.descriptor, 0, os.SEEK_END)
            while line:
                line = line[os.write(self.descriptor, line) :]
            os.fsync(self.descriptor)


def _key(line: bytes) -> str | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record.get(KEY) if isinstance(record, dict) else None
