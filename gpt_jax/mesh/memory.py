"""Whether a run can fit its devices at all, by its shapes before anything is allocated, and by what compilers count."""

import math
import os
import resource
from collections.abc import Collection
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from gpt_jax import registry
from gpt_jax.config import Config
from gpt_jax.errors import UserError
from gpt_jax.mesh import mesh as meshes
from gpt_jax.mesh import pipeline
from gpt_jax.model import remat

# Where Linux says how much memory a container may use, in its two versions of control groups.
CGROUPS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
LARGEST = 2**58  # bytes of an array, whose size compilers count in 64 bits along with others
FIX = (
    "launch.py plan says what takes how much; a smaller model or batch, train.accumulate, or mesh.fsdp over more devices "
    "lower it"
)


def check(config: Config, state: Any, mesh: Mesh, trained: Any = None) -> None:
    """Refuses a run that needs more memory than a device has, by the least that it can need: its state and, in training,
    the gradients and the residual stream that enters each layer, with the last one and its gradient.

    Args:
      state: the shapes with their shardings of the live state and of all else that steps read.
      trained: those of the parameters that have gradients; None: nothing is trained.

    Raises:
      UserError: it does not fit, or activations are to be kept in a host's memory that the devices lack.
    """
    if trained is not None:
        device = mesh.local_devices[0]
        check_offload(config.model.remat, device.platform, {space.kind for space in device.addressable_memories()})
    arrays = sum(_bytes_on_device(leaf) for leaf in jax.tree.leaves(state))
    needed = {"state": arrays}
    if trained is not None:
        gradients = sum(_bytes_on_device(leaf) for leaf in jax.tree.leaves(trained))
        needed |= {"gradients": gradients, "activations": _stream(config, mesh)}
    total, available = sum(needed.values()), _of_device(mesh)
    if total > available:
        parts = ", ".join(f"{name} {_spelt(size)}" for name, size in needed.items())
        raise UserError(
            f"this needs at least {_spelt(total)} on each device, which has {_spelt(available)}: {parts}",
            where="config.model, config.train.batch" if trained is not None else "config.model",
            fix=FIX,
        )


def check_offload(call: str, platform: str, kinds: Collection[str]) -> None:
    """Refuses to keep activations in the host's memory where there is no such memory beside the devices' own: on a CPU JAX
    would leave them where they are without a word.

    Args:
      call: a policy, ``model.remat``.
      kinds: of the memories that a device can address, by JAX's names.

    Raises:
      UserError: the policy asks for it.
    """
    if remat.policy(call).offloads and (platform == "cpu" or remat.HOST not in kinds):
        raise UserError(
            f"model.remat={call!r} moves activations from the devices to {remat.HOST} memory, and a {platform} has "
            + ("none beside its own" if platform == "cpu" else f"none: {', '.join(sorted(kinds))}"),
            where="config.model.remat",
            allowed=", ".join(name for name in registry.names("model.remat") if not remat.policy(name).offloads),
            fix="--config.model.remat=full needs the least memory without it",
        )


def check_compiled(analysis: Any, devices: Collection[jax.Device]) -> None:
    """Refuses a program whose temporaries a CPU's memory has no room for, where running it would end the process. Other
    devices say so themselves when they run it.

    Args:
      analysis: what the compiler counted, ``Compiled.memory_analysis()``; None: nothing.
      devices: those of this process that run it; what it reads is there.

    Raises:
      UserError: it does not fit.
    """
    if analysis is None or next(iter(devices)).platform != "cpu":
        return
    new = analysis.temp_size_in_bytes + analysis.output_size_in_bytes - analysis.alias_size_in_bytes
    needed, left = new * len(devices), _left_of_machine()
    if needed > left:
        raise UserError(
            f"a step needs {_spelt(needed)} beside what it reads, and {_spelt(max(left, 0))} are left to this process",
            where="config.model, config.train.batch",
            fix=FIX,
        )


def check_sizes(config: Config, state: Any) -> None:
    """Refuses what a compiler cannot even count.

    Raises:
      UserError: an array of the state or of a step is too large.
    """
    m, rows = config.model, config.train.batch * config.model.context
    sizes = {f"{'x'.join(map(str, leaf.shape))}": leaf.size for leaf in jax.tree.leaves(state)}
    sizes["train.batch x model.context x channels"] = rows * max(m.width, m.mlp_width, m.vocab, m.heads * m.head_dim)
    sizes["scores of train.batch x model.context^2 x model.heads"] = rows * m.context * m.heads
    name, largest = max(sizes.items(), key=lambda item: item[1])
    if 8 * largest > LARGEST:
        raise UserError(
            f"an array would have {largest:.3g} numbers: {name}",
            where="config.model",
            allowed=f"up to {LARGEST / 8:.2g}",
        )


def _stream(config: Config, mesh: Mesh) -> int:
    """Bytes that a device keeps of the residual stream: what enters each of its layers, the last one and its gradient."""
    model, stages, rounds = config.model, mesh.shape[pipeline.AXIS], config.mesh.rounds
    kept = rounds if stages > 1 and rounds > 1 else model.layers // stages  # in rounds, what enters a run of layers
    kept = 0 if remat.policy(model.remat).offloads else kept
    rows = math.ceil(config.train.batch / config.train.accumulate / meshes.batch_shards(mesh))
    parts = math.prod(mesh.shape[axis] for axis in {"context", *meshes.token_axes(mesh, model.context)})
    numbers = (kept + 2) * rows * math.ceil(model.context / parts) * model.width
    return numbers * (4 if model.dtype == "float32" else 2)


def _bytes_on_device(leaf: Any) -> int:
    return math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize


def _of_device(mesh: Mesh) -> float:
    """Bytes that the smallest part of one device's memory has; those of virtual CPU devices are one machine's."""
    device = mesh.local_devices[0]
    if device.platform == "cpu":
        return of_machine() / len(mesh.local_devices)
    stats = device.memory_stats() or {}
    return stats["bytes_limit"] if "bytes_limit" in stats else math.inf


def peak_bytes() -> int | None:
    """The most that one of this process's devices has held at once since it started; None where none says, as on CPUs."""
    stats = [device.memory_stats() or {} for device in jax.local_devices()]
    return max((found["peak_bytes_in_use"] for found in stats if "peak_bytes_in_use" in found), default=None)


def of_machine() -> float:
    """Bytes that this process can have at most, by the machine, its container and its limits; inf where none says."""
    return min(_of_hardware(), _of_addresses())


def _left_of_machine() -> float:
    """Bytes that this process can have beside those it has."""
    try:
        addresses, resident = (int(pages) for pages in Path("/proc/self/statm").read_text().split()[:2])
    except (OSError, ValueError):
        addresses = resident = 0
    page = resource.getpagesize()
    return min(_of_hardware() - page * resident, _of_addresses() - page * addresses)


def _of_hardware() -> float:
    found = [math.inf]
    try:
        found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (ValueError, OSError):
        pass
    for path in CGROUPS:
        try:
            found.append(int(Path(path).read_text()))
        except (OSError, ValueError):
            continue
    return min(found)


def _of_addresses() -> float:
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    return math.inf if soft == resource.RLIM_INFINITY else soft


def _spelt(size: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB", "TiB", "PiB"):
        if size < 1024:
            return f"{size:.3g} {unit}"
        size /= 1024
    return f"{size:.3g} EiB"
