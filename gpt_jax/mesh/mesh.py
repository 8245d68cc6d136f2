"""The mesh of devices, and how a batch is placed on it."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

from gpt_jax.config import MeshConfig
from gpt_jax.errors import UserError
from gpt_jax.mesh.processes import open_connections

AXES = ("data", "fsdp", "tensor", "context", "expert", "pipeline")
BATCH_AXES = ("data", "fsdp", "expert")  # split the rows of a batch between them
TOKEN_AXES = ("context", "tensor")  # split the tokens of the residual stream
# By what goes along them: devices along the last are the nearest to each other, those along the first may be far apart.
NEAREST_LAST = ("pipeline", "data", "fsdp", "expert", "context", "tensor")
TYPES = (AxisType.Auto,) * len(AXES)
THE_REST = -1


def make(config: MeshConfig) -> Mesh:
    """The mesh over all devices of all processes, with the six axes of ``AXES``, -1 meaning the remaining devices.

    Those that exchange most are nearest to each other (``NEAREST_LAST``): where tensor has as many devices as a machine,
    each of its groups is one machine, and those of pipeline span several.

    Axes are of type Auto: the compiler inserts the collectives, so that model code names no axis.

    Raises:
      UserError: the sizes do not multiply to the number of devices.
    """
    mesh = over(config, jax.devices())
    open_connections(mesh)
    return mesh


def over(config: MeshConfig, devices: Sequence[Any]) -> Mesh:
    """``make`` of devices that only compilers need to know."""
    along = dict(zip(AXES, sizes(config, len(devices)), strict=True))
    shape = [along[axis] for axis in NEAREST_LAST]
    # A side of a TPU's torus may belong to two axes: 16 x 32 devices of 8 x 8 x 8 could not be made otherwise.
    ordered = mesh_utils.create_device_mesh(shape, devices, allow_split_physical_axes=True)
    return Mesh(ordered.transpose([NEAREST_LAST.index(axis) for axis in AXES]), AXES, axis_types=TYPES)


def abstract(config: MeshConfig, devices: int) -> AbstractMesh:
    """``make`` of devices that are not here, for shapes alone."""
    return AbstractMesh(sizes(config, devices), AXES, axis_types=TYPES)


def sizes(config: MeshConfig, devices: int) -> tuple[int, ...]:
    """The devices along each of ``AXES``, of so many in all.

    Raises:
      UserError: as ``make``.
    """
    asked = {axis: getattr(config, axis) for axis in AXES}
    return tuple(_resolve(asked, devices).values())


def fitting(config: MeshConfig) -> MeshConfig:
    """The mesh as it is where its sizes fit the devices, else one that fits, with as much of fsdp and tensor as it can."""
    sizes = {axis: getattr(config, axis) for axis in AXES}
    if _fits(sizes, jax.device_count()):
        return config
    smaller: dict[str, Any] = dict.fromkeys(AXES, 1) | _smaller(sizes, jax.device_count())
    return dataclasses.replace(config, **smaller)


def batch_sharding(mesh: Mesh, shape: tuple[int, ...] = ()) -> NamedSharding:
    """How an array of a batch is sharded: its first axis over data, fsdp and expert, and its last over context where it
    divides and is not the first; replicated over the others."""
    parts = mesh.shape["context"]
    if len(shape) < 2 or parts == 1 or shape[-1] % parts:
        return NamedSharding(mesh, PartitionSpec(BATCH_AXES))
    return NamedSharding(mesh, PartitionSpec(BATCH_AXES, *(None,) * (len(shape) - 2), "context"))


def batch_shards(mesh: Mesh) -> int:
    """Pieces a batch is cut into: data * fsdp * expert."""
    return math.prod(mesh.shape[axis] for axis in BATCH_AXES)


def token_axes(mesh: Mesh, length: int) -> tuple[str, ...]:
    """The axes that split ``length`` tokens of the residual stream. Between products that tensor splits, norms and sums
    need no device to have all of them (Korthikanti et al. 2022, "sequence parallelism")."""
    found: tuple[str, ...] = ()
    for axis in TOKEN_AXES:
        if mesh.shape[axis] > 1 and length % math.prod(mesh.shape[name] for name in (*found, axis)) == 0:
            found += (axis,)
    return found


def check_batch(mesh: Mesh, batch: int, accumulate: int) -> None:
    """Refuses a global batch (sequences) whose micro-batches do not divide over the mesh.

    Raises:
      UserError: batch / accumulate is no multiple of data * fsdp * expert.
    """
    shards = batch_shards(mesh)
    if batch % (accumulate * shards):
        step = accumulate * shards
        nearest = max(step, round(batch / step) * step)
        raise UserError(
            f"train.batch = {batch} in {accumulate} micro-batches does not divide over the {shards} devices of "
            + " x ".join(
                f"{axis}={mesh.shape[axis]}" for axis in BATCH_AXES if axis != "expert" or mesh.shape[axis] > 1
            ),
            where="config.train.batch",
            allowed=f"a multiple of train.accumulate * data * fsdp * expert = {step}",
            fix=f"for example --config.train.batch={nearest}",
        )


def my_rows(mesh: Mesh, batch: int) -> tuple[int, int]:
    """The rows start:stop of a global batch that this process has to load for its devices.

    Processes whose devices differ along tensor, context or pipeline alone load the same rows. Where a topology
    interleaves the processes, the range spans all rows of this one and some of others'.
    """
    shards = batch_shards(mesh)
    pieces = batch_sharding(mesh).addressable_devices_indices_map((shards,)).values()
    bounds = [piece[0].indices(shards) for piece in pieces]
    first, last = min(b[0] for b in bounds), max(b[1] for b in bounds)
    return first * batch // shards, last * batch // shards


def put_batch(batch_rows: Mapping[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """Global arrays [B, ...] from this process's rows of each (those of ``my_rows``)."""
    shards = batch_shards(mesh)
    first, last = my_rows(mesh, shards)

    def put(rows: np.ndarray) -> jax.Array:
        batch = len(rows) * shards // (last - first)
        start = first * batch // shards

        def piece(index: tuple[slice, ...]) -> np.ndarray:
            low, high, _ = index[0].indices(batch)
            return rows[(slice(low - start, high - start), *index[1:])]

        shape = (batch, *rows.shape[1:])
        return jax.make_array_from_callback(shape, batch_sharding(mesh, shape), piece)

    return {name: put(np.asarray(rows)) for name, rows in batch_rows.items()}


def _resolve(sizes: dict[str, int], devices: int) -> dict[str, int]:
    rest = [axis for axis, size in sizes.items() if size == THE_REST]
    if len(rest) > 1:
        raise UserError(
            f"{' and '.join(f'mesh.{axis}' for axis in rest)} are both -1",
            where="config.mesh",
            allowed="one axis of -1 (the devices the others leave)",
            fix=_example(sizes, devices),
        )
    if not _fits(sizes, devices):
        shown = " x ".join(f"{axis}={size}" for axis, size in sizes.items() if size != 1 or axis in BATCH_AXES)
        raise UserError(
            f"the mesh {shown} does not match the number of devices, {devices}",
            where="config.mesh",
            allowed=f"sizes whose product is {devices}; one of them may be -1",
            fix=_example(sizes, devices),
        )
    left = devices // _fixed(sizes)
    return {axis: left if size == THE_REST else size for axis, size in sizes.items()}


def _fixed(sizes: Mapping[str, int]) -> int:
    return math.prod(size for size in sizes.values() if size != THE_REST)


def _fits(sizes: Mapping[str, int], devices: int) -> bool:
    fixed = _fixed(sizes)
    return devices % fixed == 0 if THE_REST in sizes.values() else fixed == devices


def _smaller(sizes: Mapping[str, int], devices: int) -> dict[str, int]:
    """Sizes that fit, with as much of fsdp and tensor as was asked for."""
    tensor = math.gcd(max(sizes["tensor"], 1), devices)
    fsdp = math.gcd(max(sizes["fsdp"], 1), devices // tensor)
    return {"data": THE_REST, "fsdp": fsdp, "tensor": tensor}


def _example(sizes: Mapping[str, int], devices: int) -> str:
    """``_smaller`` as flags."""
    flags = (f"--config.mesh.{axis}={size}" for axis, size in _smaller(sizes, devices).items())
    return f"for example {' '.join(flags)}"
