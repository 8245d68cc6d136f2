"""What verifies a checkpoint: the size and SHA-256 of every file, and the name, shape and type of every array.

``manifest.json`` lists them; ``manifest.sha256`` seals it in the format that ``sha256sum -c`` reads.
"""

import hashlib
import importlib.metadata
import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax

from gpt_jax.errors import StorageError, UserError
from gpt_jax.storage import sync_directory

NAME = "manifest.json"
SEAL = "manifest.sha256"
_HASHERS = 4  # threads; hashing releases the interpreter lock, and more than a few outrun the disk

Leaf = tuple[str, tuple[int, ...], str]  # path, shape, dtype


@dataclass(frozen=True)
class Manifest:
    """The contents of ``manifest.json``: what was saved, by what, and the files that hold it."""

    step: int  # completed updates
    valid_loss: (
        float | None
    )  # what the best checkpoint has least of: the objective's metric, negative where most is best
    meta: dict[str, Any]
    leaves: tuple[Leaf, ...]
    versions: dict[str, str]
    files: dict[str, tuple[int, str]]  # path below the checkpoint -> bytes, SHA-256


def paths(tree: Any) -> list[tuple[str, Any]]:
    """(path joined by "/", leaf) of every leaf of a tree."""
    flat = jax.tree_util.tree_leaves_with_path(tree)
    return [(jax.tree_util.keystr(path, simple=True, separator="/"), leaf) for path, leaf in flat]


def leaves(tree: Any) -> tuple[Leaf, ...]:
    """The path, shape and type of every array (or ``ShapeDtypeStruct``) of a tree."""
    return tuple((path, tuple(leaf.shape), str(leaf.dtype)) for path, leaf in paths(tree))


def describe(tree: Any, *, step: int, meta: dict[str, Any], valid_loss: float | None) -> Manifest:
    """The manifest of a state that is about to be written; ``meta`` is copied through JSON.

    Raises:
      TypeError: ``meta`` holds something JSON cannot.
    """
    packages = ("jax", "jaxlib", "orbax-checkpoint")
    versions = {package: importlib.metadata.version(package) for package in packages}
    return Manifest(step, valid_loss, json.loads(json.dumps(meta)), leaves(tree), versions, {})


def write(directory: Path, manifest: Manifest) -> None:
    """Lists every file below ``directory``, writes manifest and seal last, and puts all of it on the disk.

    Raises:
      OSError: the disk refused.
    """
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    with ThreadPoolExecutor(_HASHERS) as pool:
        facts = pool.map(_durable_fact, files)
        listed = {path.relative_to(directory).as_posix(): fact for path, fact in zip(files, facts, strict=True)}
    text = json.dumps(asdict(manifest) | {"files": listed}, indent=1).encode()
    for name, content in ((NAME, text), (SEAL, _seal(text))):
        with open(directory / name, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    for folder, _, _ in os.walk(directory, topdown=False):
        sync_directory(Path(folder))


def read(directory: Path) -> Manifest:
    """The manifest of a checkpoint, its own seal checked but not its files.

    Raises:
      StorageError: it is missing, damaged, or belongs to another step.
    """
    try:
        text = (directory / NAME).read_bytes()
        seal = (directory / SEAL).read_bytes()
    except OSError as error:
        raise _damaged(directory, f"{error.strerror}: {error.filename}") from error
    if seal != _seal(text):
        raise _damaged(directory, f"{NAME} does not match {SEAL}")
    values = json.loads(text)
    values["leaves"] = tuple((path, tuple(shape), dtype) for path, shape, dtype in values["leaves"])
    values["files"] = {path: (size, digest) for path, (size, digest) in values["files"].items()}
    manifest = Manifest(**values)
    if directory.name != str(manifest.step):
        raise _damaged(directory, f"{NAME} is of step {manifest.step}")
    return manifest


def verify(directory: Path) -> Manifest:
    """Reads every byte of a checkpoint and compares it with the manifest.

    Raises:
      StorageError: a file is missing, or its size or SHA-256 is another; the message names it.
    """
    manifest = read(directory)
    with ThreadPoolExecutor(_HASHERS) as pool:
        problems = pool.map(lambda item: _problem(directory / item[0], *item[1]), manifest.files.items())
        for problem in problems:
            if problem:
                raise _damaged(directory, problem)
    return manifest


def check_leaves(manifest: Manifest, tree: Any, directory: Path) -> None:
    """Compares the saved arrays with those the configuration asks for, before any is read.

    Raises:
      UserError: one is missing, too many, or of another shape or type; the message names the first.
    """
    saved = {path: _spell(shape, dtype) for path, shape, dtype in manifest.leaves}
    asked = {path: _spell(shape, dtype) for path, shape, dtype in leaves(tree)}
    for path in [*asked, *(path for path in saved if path not in asked)]:
        if saved.get(path) != asked.get(path):
            raise UserError(
                f"the checkpoint is of another model: {path} is {saved.get(path, 'absent')} there"
                f" and {asked.get(path, 'absent')} in this configuration",
                where=str(directory),
                fix="use another --workdir, or the settings in this one's config.json",
            )


def _durable_fact(path: Path) -> tuple[int, str]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return _fact(path)


def _fact(path: Path) -> tuple[int, str]:
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return file.tell(), digest


def _problem(path: Path, size: int, digest: str) -> str:
    try:
        found_size, found = _fact(path)
    except OSError as error:
        return f"{error.strerror}: {path}"
    if found_size != size:
        return f"{path} has {found_size} bytes, {size} were written"
    return "" if found == digest else f"{path} has SHA-256 {found}, {digest} was written"


def _seal(text: bytes) -> bytes:
    return f"{hashlib.sha256(text).hexdigest()}  {NAME}\n".encode()


def _spell(shape: tuple[int, ...], dtype: str) -> str:
    return f"{dtype}[{','.join(map(str, shape))}]"


def _damaged(directory: Path, reason: str) -> StorageError:
    return StorageError(
        f"the checkpoint of step {directory.name} is damaged: {reason}",
        where=str(directory),
        fix="name another step, or none: then the newest intact checkpoint is used",
    )
