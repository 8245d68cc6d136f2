"""Paths that users give, and small files that are whole whenever the machine stops: text and JSON, replaced atomically."""

import json
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from gpt_jax import limits
from gpt_jax.errors import StorageError, UserError, shortened

ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)
_NON_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


def local_path(text: str, where: str) -> Path:
    """The path that a user means, ``~`` expanded.

    Raises:
      UserError: it is empty, or the address of a bucket.
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
    return Path(text).expanduser()


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
        raise StorageError(f"{path.name} is damaged: {wrong}", where=str(path), fix="remove it, or restore a copy")
    return values


def fields_that_differ(values: Any, fields: Mapping[str, Any]) -> str:
    """What parsed JSON holds that its reader does not expect; empty where it is an object with values of their types."""
    if not isinstance(values, dict):
        return f"it holds a {type(values).__name__}, no object"
    for name, annotation in fields.items():
        if name in values and not limits.has_type(values[name], annotation):
            return f"{name} is {shortened(repr(values[name]))}, not {limits.names(annotation)}"
    return ""


def write_atomically(path: Path, text: str) -> None:
    """Replaces a file by ``text``: whenever the machine stops, the old or the new contents are there, whole.

    Raises:
      StorageError: the disk refuses.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise refused(path, error) from error


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
    if isinstance(value, dict):
        return {key: from_json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [from_json(item) for item in value]
    return _NON_FINITE.get(value, value) if isinstance(value, str) else value


def refused(path: Path, error: OSError) -> StorageError:
    return StorageError(f"{path.name} cannot be read or written: {error.strerror}", where=str(path))
