"""Rows of examples, or texts, from files with a JSON object a line."""

import glob
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gpt_jax import bars
from gpt_jax.config import Config
from gpt_jax.data.corpus import BAR
from gpt_jax.data.documents import Documents, read_bytes
from gpt_jax.data.examples import Examples
from gpt_jax.data.rows.collected import WHERE, Collected, collected, sides
from gpt_jax.data.rows.fields import SHAPES
from gpt_jax.errors import UserError
from gpt_jax.registry import register
from gpt_jax.storage import local_path

MARK = b"\xef\xbb\xbf"  # that some editors put before UTF-8
KINDS = ("*.jsonl", "*.ndjson")


@register("data.sources", "jsonl", reads=(*KINDS, *(f"/{kind}" for kind in KINDS)))
def jsonl(config: Config, *, path: str, valid: str = "", fields: dict[str, str] | None = None) -> Examples | Documents:
    """Rows in one of the shapes of ``data.examples``; where all of them are {text} alone, running text.

    Args:
      path: a file, a folder (all ``.jsonl`` files below it) or a glob.
      valid: the same for validation; empty = ``data.valid_fraction`` of the rows are held out, equal ones together.
      fields: field -> its name in the files, where that is not one of those that are known.

    Raises:
      UserError: nothing there, a line that is no such row, or rows that are in both ``path`` and ``valid``.
    """
    train = _read(path, fields or {})
    heldout = _read(valid, fields or {}) if valid else None
    return sides(train, heldout, config.data.valid_fraction, path)


def _read(path: str, fields: dict[str, str]) -> Collected:
    found = collected(((place, row) for file in _files(path) for place, row in _rows(file)), fields)
    if not found.rows:
        raise UserError(f"{path} has no rows", where=WHERE, allowed=f"a JSON object a line: {SHAPES}")
    return found


def _files(path: str) -> list[Path]:
    root = local_path(path, WHERE)
    if root.is_dir():
        found = [file for kind in KINDS for file in root.rglob(kind)]
    else:
        found = [root] if root.exists() else [Path(name) for name in glob.glob(str(root), recursive=True)]
    files = sorted(file for file in found if not file.is_dir())
    if not files:
        raise UserError(
            f"{path} is a folder without .jsonl files" if root.is_dir() else f"{path} does not exist",
            where=WHERE,
            allowed="a file, a folder with .jsonl files, or a glob",
        )
    return files


def _rows(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(place, object) of every line that is not blank."""
    data = read_bytes(file).removeprefix(MARK)
    with bars.bar(desc=f"reading {file.name}", total=len(data), leave=False, bar_format=BAR) as bar:
        for number, line in enumerate(data.split(b"\n"), 1):
            if line.strip():
                place = f"{file}, line {number}"
                yield place, _object(line, place)
            bar.update(len(line) + 1)


def _object(line: bytes, place: str) -> dict[str, Any]:
    if b"\0" in line:
        raise UserError(f"{place} has NUL bytes", where=place, fix="write the file again, as UTF-8 text")
    try:
        found = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        bad = f"byte {error.start} (0x{line[error.start]:02x})"
        raise UserError(f"{place} is not UTF-8: {error.reason} at {bad} of the line", where=place) from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{place} is not JSON: {error}", where=place, allowed="a JSON object a line") from None
    if not isinstance(found, dict):
        raise UserError(f"{place} is not a JSON object", where=place, allowed=SHAPES)
    return found
