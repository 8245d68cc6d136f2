"""The tensors of a directory: ``model.safetensors``, or the files that ``model.safetensors.index.json`` lists."""

import contextlib
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from gpt_jax.errors import StorageError, UserError
from gpt_jax.interop import packed

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
DTYPES = ("F32", "F16", "BF16")
POINTER, POINTER_SIZE = b"version https://git-lfs", 1024  # what such a file begins with, and bytes that it stays below
CONFIG = "config.json"
ADAPTER = "adapter_config.json"
# Weights in other forms -> what to do about them.
OTHERS = (
    (("model-*-of-*.safetensors",), f"download {INDEX}, which says what the files hold, too"),
    (("consolidated*",), "these are in the form of the model's authors; download the files of transformers, too"),
    (("*.safetensors",), f"rename the file to {SINGLE} if it holds the model"),
    (("*.gguf",), "download the model that was quantised: its weights are floating-point numbers"),
    (
        ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.h5", "*.msgpack", "*.onnx"),
        "convert it where you trust it: transformers' save_pretrained writes safetensors",
    ),
)


def read_json(path: Path) -> dict[str, Any]:
    """An object in a JSON file.

    Raises:
      UserError: there is no such file, or something else in it.
    """
    refuse_pointer(path)
    try:
        values = json.loads(path.read_text("utf-8-sig"))
    except OSError as error:
        raise UserError(
            f"{path.name} cannot be read: {error.strerror}", where=str(path), fix=_snapshot(path.parent)
        ) from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path.name} is not JSON: {error}", where=str(path)) from None
    if not isinstance(values, dict):
        raise UserError(f"{path.name} is not a JSON object", where=str(path))
    return values


def refuse_pointer(path: Path) -> None:
    """
    Raises:
      UserError: the file stands for one that Git LFS has not fetched.
    """
    if path.is_file() and path.stat().st_size < POINTER_SIZE and path.read_bytes().startswith(POINTER):
        raise UserError(
            f"{path.name} is a pointer of Git LFS, not the file itself",
            where=str(path),
            fix="git lfs pull in its folder",
        )


def _snapshot(directory: Path) -> str:
    """Advice where the directory is one of huggingface_hub's cache, which has the files of a version further down."""
    found = sorted(path.parent for path in directory.glob(f"snapshots/*/{CONFIG}"))
    return f"the model is in {found[-1]}" if found else ""


class Reader:
    """The tensors of a directory by name, each read when it is asked for. A context manager.

    Args:
      chosen: the file that config.json names with ``transformers_weights``, if it does.

    Raises:
      UserError: a file is missing, damaged, outside the directory or no safetensors; two files differ in a tensor.
    """

    def __init__(self, directory: Path, chosen: str = ""):
        self._files: dict[str, tuple[Any, Path]] = {}
        files, placed = _files(directory, chosen)
        with contextlib.ExitStack() as stack:
            for path in files:
                for name in (file := _opened(stack, path)).keys():
                    if name in self._files:
                        self._check_copy(name, file, path, placed)
                    self._files[name] = (file, path)
            self._stack = stack.pop_all()
        self._packed = packed.names(set(self._files))

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def names(self) -> set[str]:
        parts = {f"{name}{end}" for name in self._packed for end in packed.PARTS}
        return set(self._files) - parts | self._packed

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor.

        Raises:
          UserError: its type is none that is read.
        """
        if name in self._packed:
            blocks, scales = (self._stored_shape(f"{name}{end}", (packed.DTYPE,)) for end in packed.PARTS)
            if len(blocks) != 4 or scales != blocks[:-1]:
                raise UserError(f"the blocks of {name} have shape {blocks}, and their scales {scales}")
            return packed.shape(blocks)
        return self._stored_shape(name, DTYPES)

    def get(self, name: str) -> np.ndarray:
        """A tensor, in the type it is stored in; float32 where it is packed."""
        if name in self._packed:
            return packed.unpack(*(self.get(f"{name}{end}") for end in packed.PARTS))
        return self._files[name][0].get_tensor(name)

    def _stored_shape(self, name: str, allowed: tuple[str, ...]) -> tuple[int, ...]:
        file, path = self._files[name]
        part = file.get_slice(name)
        if part.get_dtype() not in allowed:
            raise UserError(
                f"the tensor {name} is of type {part.get_dtype()}", where=str(path), allowed=", ".join(allowed)
            )
        return tuple(part.get_shape())

    def _check_copy(self, name: str, file: Any, path: Path, placed: Mapping[str, str]) -> None:
        """The last file's copy of a tensor is read, as transformers does, if the index or the other copy agrees."""
        before, where = self._files[name]
        if placed.get(name) != path.name and not np.array_equal(before.get_tensor(name), file.get_tensor(name)):
            raise UserError(
                f"two files hold the tensor {name}, with other values: {where.name} and {path.name}",
                where=str(path.parent),
                fix="download the directory again, without files of another version",
            )


def digest(directory: Path, chosen: str) -> str:
    """SHA-256 of the files that ``Reader`` reads, names and contents."""
    found = hashlib.sha256()
    for path in sorted(_files(directory, chosen)[0]):
        with open(path, "rb") as file:
            found.update(f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return found.hexdigest()


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


def _files(directory: Path, chosen: str) -> tuple[list[Path], dict[str, str]]:
    """The files that transformers would read, and the index's tensor -> file, if it is by an index."""
    if (directory / ADAPTER).exists():
        raise UserError(
            f"{ADAPTER} says that this is an adapter of another model",
            where=str(directory),
            fix="merge it where you trained it: merge_and_unload(), then save_pretrained() to a new directory; "
            f"where {SINGLE} is that already, remove {ADAPTER}",
        )
    chosen = chosen or next((name for name in (SINGLE, INDEX) if (directory / name).is_file()), "")
    if not chosen:
        raise _nothing_to_read(directory)
    if not chosen.endswith(".index.json"):
        return [directory / _bare(chosen, "config.json names the file", directory)], {}
    path = directory / _bare(chosen, "config.json names the index", directory)
    placed = read_json(path).get("weight_map")
    if not isinstance(placed, dict) or not placed:
        raise UserError(f"{path.name} has no weight_map", where=str(path))
    for name, file in placed.items():
        _bare(file, f"the index places the tensor {name} in", path)
    return [directory / file for file in sorted(set(placed.values()))], placed


def _bare(file: Any, said: str, where: Path) -> str:
    """A file's name, which nothing leads out of the directory.

    Raises:
      UserError: it is another kind of name.
    """
    if not isinstance(file, str) or not re.fullmatch(r"[\w.-]+\.safetensors(\.index\.json)?", file):
        raise UserError(
            f"{said} {file!r}", where=str(where), allowed="the bare name of a .safetensors file of the same directory"
        )
    return file


def _nothing_to_read(directory: Path) -> UserError:
    """What the directory holds instead of weights in safetensors, and what to do about it."""
    others = {
        fix: [p.name for pattern in patterns for p in sorted(directory.glob(pattern))] for patterns, fix in OTHERS
    }
    found = [name for names in others.values() for name in names]
    return UserError(
        f"there is no {SINGLE} and no {INDEX}" + (f", only {', '.join(found)}" if found else ""),
        where=str(directory),
        allowed="safetensors: opening a pickle can run any code",
        fix=next((fix for fix, names in others.items() if names), "download the model's weights, too"),
    )


def _opened(stack: contextlib.ExitStack, path: Path) -> Any:
    refuse_pointer(path)
    try:
        return stack.enter_context(safe_open(path, framework="numpy"))
    except FileNotFoundError:
        raise UserError(f"{path.name} is missing", where=str(path)) from None
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path.name} is damaged or no safetensors file: {error}", where=str(path)) from None
