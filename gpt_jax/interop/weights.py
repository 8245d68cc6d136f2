"""Parameters in and out of a directory's tensors, one tensor at a time."""

import re
from collections.abc import Mapping

import numpy as np

from gpt_jax import bars
from gpt_jax.config import ModelConfig
from gpt_jax.errors import UserError
from gpt_jax.interop import plan
from gpt_jax.interop.family import Family
from gpt_jax.interop.plan import Tensor
from gpt_jax.interop.rows import sizes_of
from gpt_jax.interop.tensors import Reader

Shapes = Mapping[str, tuple[int, ...]]
ALIGNMENT = 64  # bytes; JAX's CPU backend takes arrays that are so aligned without copying them


def read(family: Family, model: ModelConfig, shapes: Shapes, files: Reader, where: str) -> dict[str, np.ndarray]:
    """The parameters, float32 in the stacked layout, path -> array. Every name and shape is checked before any is read.

    Raises:
      UserError: a tensor is missing, not known, or of another shape; a readout that ought to be tied is not.
    """
    wanted = plan.tensors(family.rows, model, dict(shapes))
    wanted = _as_named(family, wanted, files.names())
    sizes = sizes_of(model)
    twins = _check(family, wanted, files, sizes, where)
    arrays = {path: aligned_zeros(shape) for path, shape in shapes.items()}
    for tensor in bars.bar(wanted, desc="reading", unit="tensor"):
        theirs = files.get(tensor.name)
        for part, values in zip(tensor.parts, tensor.row.split(theirs, sizes), strict=True):
            into = arrays[part.path] if part.layer is None else arrays[part.path][part.layer]
            into[...] = values
            if tensor.row.plus:
                into += tensor.row.plus
        del theirs, values
    for name in twins:
        if not np.array_equal(files.get(name), files.get(_embedding(wanted))):
            raise UserError(
                f"config.json ties the readout to the embedding, and {name} differs from it",
                where=where,
                fix='set "tie_word_embeddings": false in config.json if the readout is one of its own',
            )
    return arrays


def make(tensor: Tensor, model: ModelConfig, arrays: Mapping[str, np.ndarray], dtype: np.dtype) -> np.ndarray:
    """A tensor of the directory from our parameters; biases that the model has not are zeros.

    Raises:
      UserError: a value is too large for ``dtype``.
    """
    sizes = sizes_of(model)
    parts = []
    for part in tensor.parts:
        if part.path not in arrays:
            parts.append(np.zeros(tensor.row.our_shape(sizes), np.float32))
        else:
            parts.append(arrays[part.path] if part.layer is None else arrays[part.path][part.layer])
    joined = tensor.row.join(parts, sizes)
    with np.errstate(over="ignore"):
        theirs = np.ascontiguousarray(joined.astype(dtype))
    if np.isinf(theirs).sum() > np.isinf(joined).sum():
        raise UserError(f"{tensor.name} has values too large for {dtype}", where="--dtype", allowed="float32, bfloat16")
    return theirs


def aligned_zeros(shape: tuple[int, ...]) -> np.ndarray:
    """Zeros in float32 whose first byte is ``ALIGNMENT``-aligned."""
    size = int(np.prod(shape)) * 4
    raw = np.zeros(size + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + size].view(np.float32).reshape(shape)


def _as_named(family: Family, wanted: list[Tensor], found: set[str]) -> list[Tensor]:
    """The tensors under the names of this directory: those of a model saved without its head have no prefix, and of two
    that are tied, the embedding may be stored as the readout."""
    if not any(name.startswith(family.prefix) for name in found):
        wanted = [Tensor(t.name.removeprefix(family.prefix), t.row, t.parts) for t in wanted]
    embedding, readout = _embedding(wanted), _readout(family)
    if embedding in found or readout not in found or any(t.name == readout for t in wanted):
        return wanted
    return [Tensor(readout, t.row, t.parts) if t.name == embedding else t for t in wanted]


def _check(family: Family, wanted: list[Tensor], files: Reader, sizes: dict[str, int], where: str) -> list[str]:
    """Refuses what does not fit; returns the names of readouts that repeat the embedding they are tied to."""
    names = {tensor.name for tensor in wanted}
    missing = sorted(names - files.names())
    readout = _readout(family)
    if missing:
        untied = 'set "tie_word_embeddings": true in config.json if the readout is the embedding'
        raise UserError(
            f"{_listed('tensor', missing)} missing", where=where, fix=untied if missing == [readout] else ""
        )
    extra = sorted(name for name in files.names() - names if not re.fullmatch(family.buffers, name))
    twins = [name for name in extra if name == readout and files.shape(name) == files.shape(_embedding(wanted))]
    extra = [name for name in extra if name not in twins]
    if extra:
        raise UserError(
            f"{_listed('tensor', extra)} no part of a {family.name} with this config.json",
            where=where,
            fix="a model with more than the family's own parts cannot be imported",
        )
    for tensor in wanted:
        shape, expected = files.shape(tensor.name), tensor.row.shape(sizes)
        if shape != expected:
            raise UserError(
                f"the tensor {tensor.name} has shape {shape}", where=where, allowed=f"{expected}, by config.json"
            )
    return twins


def _embedding(wanted: list[Tensor]) -> str:
    return next(tensor.name for tensor in wanted if tensor.row.ours == ("embed/tokens/w",))


def _readout(family: Family) -> str:
    return next(row.theirs for row in family.rows if row.ours == ("readout/w",))


def _listed(noun: str, names: list[str]) -> str:
    shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return f"the {noun} {shown} is" if len(names) == 1 else f"the {noun}s {shown} are"
