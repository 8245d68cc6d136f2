"""Folders of derived files, made once, verified, and shared between processes."""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from gpt_jax.errors import StorageError, UserError
from gpt_jax.storage import NO_LOCKS

MANIFEST = "manifest.json"


def digest(*parts: str | bytes | int | float | None) -> str:
    """SHA-256 over a sequence of values; each is delimited, so that ("ab", "c") differs from ("a", "bc")."""
    state = hashlib.sha256()
    for part in parts:
        data = part if isinstance(part, bytes) else repr(part).encode("utf-8", "surrogatepass")
        state.update(b"%d:" % len(data))
        state.update(data)
    return state.hexdigest()


def entry(root: Path, key: str, build: Callable[[Path], None]) -> Path:
    """The folder ``root/key``, filled by ``build(folder)`` unless a complete one is there.

    A build happens in a folder beside it which is renamed when its manifest (name, size and SHA-256 of every file) is
    written; so what a killed build left, or a file that was cut or changed since, is never used. Processes that want
    the same key wait for the one that builds it; where the file system has no locks, each builds it, and one is kept.

    Raises:
      UserError: ``root`` cannot be created or written.
      StorageError: the disk refused while building.
    """
    final = root / key
    if is_complete(final):
        return final
    with _locked(root, key) as alone:
        if is_complete(final):
            return final
        for remains in [final, *(root.glob(f"{key}.building-*") if alone else ())]:
            shutil.rmtree(remains, ignore_errors=True)
        building = root / f"{key}.building-{uuid.uuid4().hex}"
        try:
            building.mkdir()
            build(building)
            _write_manifest(building)
            os.rename(building, final)
        except OSError as error:
            if not is_complete(final):  # by another process, without locks
                raise StorageError(f"the data cache cannot be written: {error}", where=str(root)) from None
        finally:
            shutil.rmtree(building, ignore_errors=True)
    return final


@contextlib.contextmanager
def _locked(root: Path, key: str) -> Iterator[bool]:
    """Takes the key's lock, which the kernel releases when the process ends; false where there are no locks."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        lock = os.open(root / f"{key}.lock", os.O_CREAT | os.O_RDWR)
    except OSError as error:
        raise UserError(
            f"the data cache cannot be written: {error.strerror}",
            where=f"config.data.cache ({root})",
            fix="set config.data.cache to a folder you can write",
        ) from None
    try:
        yield _flock(lock)
    finally:
        os.close(lock)


def _flock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        return False
    return True


def is_complete(folder: Path) -> bool:
    """Whether the folder's manifest is there and every file is as it says."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
        return manifest == _listing(folder)
    except (OSError, ValueError):
        return False


def _write_manifest(folder: Path) -> None:
    (folder / MANIFEST).write_text(json.dumps(_listing(folder), indent=1), "utf-8")


def _listing(folder: Path) -> dict[str, list]:
    files = sorted(path for path in folder.iterdir() if path.name != MANIFEST)
    return {path.name: [path.stat().st_size, file_digest(path)] for path in files}


def file_digest(path: Path) -> str:
    """SHA-256 of a file's content."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
