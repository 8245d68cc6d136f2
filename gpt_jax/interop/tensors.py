"""The tensors of a directory: ``model.safetensors``, or the files that ``model.safetensors.index.json`` lists."""

import contextlib
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from gpt_jax.errors import StorageError, UserError

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
DTYPES = ("F32", "F16", "BF16")
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.h5", "*.msgpack")


def read_json(path: Path) -> dict[str, Any]:
    """An object in a JSON file.

    Raises:
      UserError: there is no such file, or something else in it.
    """
    try:
        values = json.loads(path.read_text("utf-8-sig"))
    except OSError as error:
        raise UserError(f"{path.name} cannot be read: {error.strerror}", where=str(path)) from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path.name} is not JSON: {error}", where=str(path)) from None
    if not isinstance(values, dict):
        raise UserError(f"{path.name} is not a JSON object", where=str(path))
    return values


class Reader:
    """The tensors of a directory by name, each read when it is asked for. A context manager.

    Raises:
      UserError: a file is missing, damaged, outside the directory or no safetensors; two files hold the same name.
    """

    def __init__(self, directory: Path):
        self._files: dict[str, tuple[Any, Path]] = {}
        with contextlib.ExitStack() as stack:
            for path in _files(directory):
                for name in (file := _opened(stack, path)).keys():
                    if name in self._files:
                        raise UserError(f"two files hold the tensor {name}", where=str(path))
                    self._files[name] = (file, path)
            self._stack = stack.pop_all()

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def names(self) -> set[str]:
        return set(self._files)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor.

        Raises:
          UserError: its type is none that is read.
        """
        file, path = self._files[name]
        part = file.get_slice(name)
        if part.get_dtype() not in DTYPES:
            raise UserError(
                f"the tensor {name} is of type {part.get_dtype()}", where=str(path), allowed=", ".join(DTYPES)
            )
        return tuple(part.get_shape())

    def get(self, name: str) -> np.ndarray:
        """A tensor, in the type it is stored in."""
        return self._files[name][0].get_tensor(name)


def write(directory: Path, tensors: Iterable[tuple[str, int]], make: Any, limit: int) -> Iterator[str]:
    """Writes tensors into one file, or into several of up to ``limit`` bytes and their index; yields each name.

    Args:
      tensors: (name, bytes) of each, in order.
      make: name -> its array, asked for when its file's turn comes.
    """
    shards = _shards(tensors, limit)
    names = [SINGLE] if len(shards) == 1 else [_shard_name(i, len(shards)) for i in range(len(shards))]
    for file, shard in zip(names, shards, strict=True):
        arrays = {}
        for name, _ in shard:
            arrays[name] = np.ascontiguousarray(make(name))
            yield name
        _save(arrays, directory / file)
    if len(shards) > 1:
        total = sum(size for shard in shards for _, size in shard)
        placed = {name: file for file, shard in zip(names, shards, strict=True) for name, _ in shard}
        index = {"metadata": {"total_size": total}, "weight_map": placed}
        (directory / INDEX).write_text(json.dumps(index, indent=2) + "\n", "utf-8")


def _save(arrays: dict[str, np.ndarray], path: Path) -> None:
    try:
        save_file(arrays, path, {"format": "pt"})
    except SafetensorError as error:
        raise StorageError(f"{path.name} cannot be written: {error}", where=str(path.parent)) from error


def dtype_of(name: str) -> np.dtype:
    """NumPy's type of a name, bfloat16 included."""
    return jnp.dtype(name)


def _shards(tensors: Iterable[tuple[str, int]], limit: int) -> list[list[tuple[str, int]]]:
    shards: list[list[tuple[str, int]]] = [[]]
    filled = 0
    for name, size in tensors:
        if shards[-1] and filled + size > limit:
            shards.append([])
            filled = 0
        shards[-1].append((name, size))
        filled += size
    return shards


def _shard_name(i: int, count: int) -> str:
    return f"model-{i + 1:05d}-of-{count:05d}.safetensors"


def _files(directory: Path) -> list[Path]:
    if (directory / INDEX).exists():
        placed = read_json(directory / INDEX).get("weight_map")
        if not isinstance(placed, dict) or not placed:
            raise UserError(f"{INDEX} has no weight_map", where=str(directory / INDEX))
        for name, file in placed.items():
            # A bare name: nothing that could lead out of the directory is opened.
            if not isinstance(file, str) or not re.fullmatch(r"[\w.-]+\.safetensors", file):
                raise UserError(
                    f"the index places the tensor {name} in {file!r}",
                    where=str(directory / INDEX),
                    allowed="the bare name of a .safetensors file of the same directory",
                )
        return [directory / file for file in sorted(set(placed.values()))]
    if (directory / SINGLE).exists():
        return [directory / SINGLE]
    pickled = sorted(path.name for pattern in PICKLES for path in directory.glob(pattern))
    raise UserError(
        f"there is no {SINGLE} and no {INDEX}" + (f", only {', '.join(pickled)}" if pickled else ""),
        where=str(directory),
        allowed="safetensors: opening a pickle can run any code",
        fix="convert it where you trust it: transformers' save_pretrained writes safetensors",
    )


def _opened(stack: contextlib.ExitStack, path: Path) -> Any:
    try:
        return stack.enter_context(safe_open(path, framework="numpy"))
    except FileNotFoundError:
        raise UserError(f"{path.name} is missing", where=str(path)) from None
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path.name} is damaged or no safetensors file: {error}", where=str(path)) from None
