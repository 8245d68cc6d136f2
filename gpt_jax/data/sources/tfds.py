"""Sets of TensorFlow Datasets, read from array_record files by ``data_source``; TensorFlow is never imported."""

import importlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from gpt_jax import bars
from gpt_jax.config import Config
from gpt_jax.data import cache
from gpt_jax.data.corpus import BAR
from gpt_jax.data.documents import Documents, decode
from gpt_jax.data.examples import Examples
from gpt_jax.data.rows.collected import Collected, collected, sides
from gpt_jax.errors import UserError
from gpt_jax.registry import register
from gpt_jax.storage import local_path


@register("data.sources", "tfds")
def tfds(
    config: Config,
    *,
    name: str,
    field: str = "text",
    fields: dict[str, str] | None = None,
    data_dir: str = "",
    train: str = "train",
    valid: str = "",
) -> Documents | Examples:
    """The texts in ``field`` of the set ``name`` ("lm1b", "wiki40b/en:1.3.0", ...), prepared below ``data_dir``, or rows of
    examples made from ``fields``.

    ``train`` and ``valid`` are its splits, or parts and sums of them as TFDS writes them ("train[:50%]", "train+test");
    without ``valid``, ``config.data.valid_fraction`` of ``train`` is held out.

    Args:
      fields: field of a row -> the set's: {"prompt": "question", "completion": "answer"}; "a/b" is field b of a, and
        "a/0" its first part.

    Raises:
      UserError: the package, the set, a split or a field is missing, the set is not in array_record files, a row is not one
        of examples, or ``train`` and ``valid`` have examples in common.
    """
    if fields and field != "text":
        raise UserError(
            "tfds(...) has both field= and fields=", where="config.data.source", fix="leave out one of them"
        )
    data_dir = data_dir and str(local_path(data_dir, "config.data.source"))
    library = _import()
    try:
        builder = library.builder(name, data_dir=data_dir or None, file_format="array_record")
        prepared = Path(builder.data_dir).is_dir()
    except Exception as error:  # the library raises many kinds; its message names the set
        reason = str(error).strip().partition("\n")[0]  # below are the names of all sets
        raise UserError(f"the set {name!r} cannot be opened: {reason}", where="config.data.source") from None
    if not prepared:
        raise UserError(
            f"the set {name!r} is not prepared in {builder.data_dir}",
            where="config.data.source",
            fix=f'python -c "import tensorflow_datasets as t; t.builder({name!r}, data_dir={data_dir or None!r}, '
            "file_format='array_record').download_and_prepare()\"",
        )
    if valid:
        _check_apart(builder, train, valid)
    if fields:
        heldout_rows = _collected(builder, valid, fields) if valid else None
        return sides(_collected(builder, train, fields), heldout_rows, config.data.valid_fraction, name)
    training = _documents(builder, train, field)
    if not valid:
        return training
    heldout = _documents(builder, valid, field)
    return Documents(training.names, training.read, cache.digest(training.digest, heldout.digest), heldout)


def _check_apart(builder: Any, train: str, valid: str) -> None:
    """Raises ``UserError`` where two splits have examples in common."""
    if common := _common(_places(builder, train), _places(builder, valid)):
        raise UserError(
            f"train={train!r} and valid={valid!r} have {common} examples in common",
            where="config.data.source",
            fix="give parts that do not overlap, such as train='train[:90%]' and valid='train[90%:]'",
        )


def _places(builder: Any, split: str) -> list[tuple[str, int, int]]:
    """(file, first example, the one after the last) of every file of a split."""
    try:
        found = builder.info.splits[split].file_instructions
    except (KeyError, ValueError, AssertionError):  # of TFDS, for a name that it does not know or cannot parse
        raise UserError(
            f"{builder.info.full_name} has no split {split!r}",
            where="config.data.source",
            allowed=f"{', '.join(builder.info.splits)}, parts such as 'train[:90%]', and sums of them",
        ) from None
    places = []
    for part in found:
        end = part.examples_in_shard if part.take < 0 else part.skip + part.take
        places.append((str(part.filename), part.skip, end))
    if not places:
        raise UserError(f"{split!r} of {builder.info.full_name} has no examples", where="config.data.source")
    return places


def _common(these: list[tuple[str, int, int]], those: list[tuple[str, int, int]]) -> int:
    """Examples that are in both."""
    pairs = [(a, b) for a in these for b in those if a[0] == b[0]]
    return sum(max(0, min(a[2], b[2]) - max(a[1], b[1])) for a, b in pairs)


def _check_field(builder: Any, field: str) -> None:
    if field not in builder.info.features:
        raise UserError(
            f"{builder.info.full_name} has no field {field!r}",
            where="config.data.source",
            allowed=", ".join(builder.info.features),
        )


def _collected(builder: Any, split: str, fields: dict[str, str]) -> Collected:
    """The rows of a split: those of the set's fields that ``fields`` names."""
    _places(builder, split)
    for name in fields.values():
        _check_field(builder, name.partition("/")[0])
    rows, full_name = builder.as_data_source(split=split), f"{builder.info.full_name}/{split}"

    def read() -> Iterator[tuple[str, Mapping[str, Any]]]:
        for i in bars.bar(range(len(rows)), desc=f"reading {split}", leave=False, bar_format=BAR):
            place, row = f"{full_name}/{i}", rows[i]
            yield place, {field: _value(row, name, place) for field, name in fields.items()}

    return collected(read(), {})


def _value(row: Any, path: str, place: str) -> Any:
    """What stands at a path of a row, in Python's types."""
    for name in path.split("/"):
        try:
            row = row[name] if isinstance(row, Mapping) else row[int(name)]
        except (KeyError, IndexError, ValueError, TypeError):
            raise UserError(f"{place} has no field {path!r}", where="config.data.source") from None
    return _plain(row, place)


def _plain(value: Any, place: str) -> Any:
    if isinstance(value, bytes):
        return decode(value, place)
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist(), place)
    if isinstance(value, Mapping):
        columns = {name: _plain(part, place) for name, part in value.items()}
        if all(isinstance(column, list) for column in columns.values()):  # a sequence of tables, as TFDS gives it
            return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        return columns
    return [_plain(part, place) for part in value] if isinstance(value, list | tuple) else value


def _documents(builder: Any, split: str, field: str) -> Documents:
    places = _places(builder, split)
    _check_field(builder, field)
    rows = builder.as_data_source(split=split)
    if len(rows) and not isinstance(rows[0][field], bytes):
        raise UserError(
            f"the field {field!r} of {builder.info.full_name} is no text but {type(rows[0][field]).__name__}",
            where="config.data.source",
        )
    names = tuple(f"{builder.info.full_name}/{split}/{i}" for i in range(len(rows)))
    files = [cache.file_digest(Path(name)) for name in dict.fromkeys(name for name, _, _ in places)]
    return Documents(
        names=names,
        read=lambda i: decode(rows[i][field], names[i]),
        digest=cache.digest(builder.info.full_name, split, field, *files),
    )


def _import() -> ModuleType:
    try:
        return importlib.import_module("tensorflow_datasets")
    except ImportError as error:
        raise UserError(
            f"tfds(...) needs a package that is not installed: {error.name}",
            where="config.data.source",
            fix="pip install tensorflow-datasets array-record importlib_resources",
        ) from None
