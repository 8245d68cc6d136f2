"""Paths that users give, what the disk refuses, and small files that are whole whenever the machine stops."""

import contextlib
import errno
import json
import math
import os
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from gpt_jax import limits
from gpt_jax.errors import Failure, StorageError, UserError, lost_process, out_of_memory, shortened

ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+:/", re.IGNORECASE)  # pathlib makes one slash of two
_MISSING = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
# What file systems answer that have no locks, cannot map files, or cannot sync directories: network ones, mounted buckets.
NO_LOCKS, NO_MAPPING, NO_SYNC = _MISSING | {errno.ENOLCK}, _MISSING | {errno.ENODEV}, _MISSING | {errno.EBADF}
_NON_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


def local_path(text: str, where: str) -> Path:
    """The path that a user means, in a flag or a setting: ``~`` expanded, relative to where the user stands.

    Raises:
      UserError: it is empty, the address of a bucket, or below a home directory that is not known.
    """
    if not text.strip():
        raise UserError("an empty path", where=where, fix="is the variable that it comes from set?")
    if ADDRESS.match(text):
        raise UserError(
            f"{text} is an address",
            where=where,
            allowed="a directory or file of this machine",
            fix="mount the bucket, or copy the run there when it is done",
        )
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise UserError(
            f"{text}: this user has no home directory", where=where, fix="set HOME, or give a path without ~"
        ) from error


def cache_folder(name: str) -> Path | None:
    """A folder of that name in this user's cache, by the XDG rules; None where it cannot be written, as without a home."""
    home = os.environ.get("XDG_CACHE_HOME", "")
    try:
        path = (Path(home) if os.path.isabs(home) else Path("~/.cache").expanduser()) / "gpt_jax" / name
        path.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):
        return None
    return path if os.access(path, os.W_OK | os.X_OK) else None


def make_folder(path: Path) -> Path:
    """Makes a directory, and those above it, where they are missing.

    Raises:
      StorageError: the disk refuses.
    """
    with writing(path):
        path.mkdir(parents=True, exist_ok=True)
    return path


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """What the disk refuses within becomes a StorageError that names ``path`` and the reason."""
    try:
        yield
    except OSError as error:
        raise refused(path, error) from error


@contextlib.contextmanager
def only_warned(what: str) -> Iterator[None]:
    """For what follows a result and must not undo it: an error within becomes a line on standard error."""
    try:
        yield
    except Exception as error:
        reason = f"{error.what} ({error.where})" if isinstance(error, Failure) else f"{type(error).__name__}: {error}"
        print(f"warning: {what}: {reason}", file=sys.stderr, flush=True)


def write_json(path: Path, values: Any) -> Path:
    """Writes ``values`` as JSON, atomically; non-finite floats become strings."""
    write_atomically(path, json.dumps(to_json(values), indent=2, allow_nan=False) + "\n")
    return path


def read_json(path: Path, missing: Any, fields: Mapping[str, Any] = MappingProxyType({})) -> Any:
    """The object that ``write_json`` wrote, or ``missing`` where there is no such file.

    Args:
      fields: the annotations of those of its values that are read, each checked where it is there.

    Raises:
      StorageError: the file is damaged or cannot be read.
    """
    try:
        values = from_json(json.loads(path.read_text("utf-8")))
        wrong = fields_that_differ(values, fields)
    except FileNotFoundError:
        return missing
    except (ValueError, RecursionError) as error:
        raise StorageError(f"{path.name} is not JSON: {error}", where=str(path), fix="remove it") from error
    except OSError as error:
        raise refused(path, error) from error
    if wrong:
        raise damaged(path, wrong)
    return values


def damaged(path: Path, what: str) -> StorageError:
    """The error of a file that does not hold what was written into it."""
    return StorageError(f"{path.name} is damaged: {what}", where=str(path), fix="remove it, or restore a copy")


def fields_that_differ(values: Any, fields: Mapping[str, Any]) -> str:
    """What parsed JSON holds that its reader does not expect; empty where it is an object with values of their types."""
    if not isinstance(values, dict):
        return f"it holds a {type(values).__name__}, no object"
    for name, annotation in fields.items():
        if name in values and not limits.has_type(values[name], annotation):
            return f"{name} is {shortened(repr(values[name]))}, not {limits.names(annotation)}"
    return ""


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replaces a file by ``content``: whenever the machine stops, the old or the new contents are there, whole.

    A device or a pipe, such as /dev/stdout, is written to, and stays.

    Raises:
      StorageError: the disk refuses.
    """
    if _is_stream(path):
        with writing(path), open(path, "wb") as stream:
            stream.write(content.encode() if isinstance(content, str) else content)
        return
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_directory(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise refused(path, error) from error


def _is_stream(path: Path) -> bool:
    """Whether it is a device or a pipe, or a name of one of this process's own files."""
    return path.parent in (Path("/dev"), Path("/dev/fd")) or (
        os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path))
    )


def sync_directory(path: Path) -> None:
    """Makes the names in a directory durable, where its file system can."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in NO_SYNC:
            raise
    finally:
        os.close(descriptor)


def to_json(value: Any) -> Any:
    """Containers and scalars of any kind as JSON has them."""
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    return value


def from_json(value: Any) -> Any:
    """
    Raises:
      ValueError: a number is larger than any that is written.
    """
    if isinstance(value, int) and value.bit_length() > sys.float_info.max_exp:
        raise ValueError(f"a number has {value.bit_length()} bits")
    if isinstance(value, dict):
        return {key: from_json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [from_json(item) for item in value]
    return _NON_FINITE.get(value, value) if isinstance(value, str) else value


def as_failure(error: Exception) -> Failure | None:
    """The failure that an error is: what the disk refuses, wherever it was asked, has the name of a path, memory that ran
    out is the user's to change, and without one of its processes a launch can only be resumed. None for a bug."""
    if isinstance(error, OSError) and error.filename is not None:
        return refused(Path(os.fsdecode(error.filename)), error)
    return error if isinstance(error, Failure) else out_of_memory(error) or lost_process(error)


def refused(path: Path, error: OSError) -> StorageError:
    """What to say of a path that the disk refuses to read or write."""
    return StorageError(f"{path.name or path} cannot be read or written: {error.strerror or error}", where=str(path))
