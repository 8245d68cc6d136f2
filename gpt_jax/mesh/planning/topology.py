"""Devices that are not here, described so that their own compiler can compile for them.

Compilers come with JAX's wheels: jax[tpu] for TPUs, jax[cuda13] for GPUs (requirements/tpu.txt and gpu.txt).
"""

import importlib.metadata
import math
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax

from gpt_jax.errors import UserError
from gpt_jax.mesh.planning.chips import CHIPS, Chip

TARGETS = Path(__file__).parent / "targets"
# Compilers before JAX 0.11 refuse a description that has fields unknown to them.
SINCE = (0, 11)
NEWER = (
    "mem_clock_ghz",
    "reserved_shared_memory_per_block",
    "max_blocks_per_multiprocessor",
    "collective_memory_granularity",
)

COMPILERS = {"tpu": ("libtpu",), "gpu": ("jax-cuda13-pjrt", "jax-cuda12-pjrt")}  # packages that have them
EXTRAS = {"tpu": "jax[tpu]", "gpu": "jax[cuda13]"}
SIDES = {"v5e": 2, "v5p": 3, "v6e": 2}  # of a TPU's torus; of a v4's two cores a chip libtpu makes two devices
EXAMPLES = "v5p:8x8x8, v6e:16x16, h100:64x8 (nodes x GPUs)"


@dataclass(frozen=True)
class Topology:
    """So many devices of a chip: of a TPU along each side of the torus; of GPUs nodes, and in each."""

    chip: Chip
    sides: tuple[int, ...]

    @property
    def name(self) -> str:
        return f"{self.chip.name}:{'x'.join(map(str, self.sides))}"

    @property
    def count(self) -> int:
        return math.prod(self.sides)


def parse(text: str) -> Topology:
    """The topology that ``text`` names, as "v5p:8x8x8".

    Raises:
      UserError: it names none.
    """
    name, _, sides = text.lower().removeprefix("tpu-").partition(":")
    known = [chip for chip in CHIPS if chip in SIDES or _described(chip)]
    wanted = SIDES.get(name, 2)
    if name not in known or not re.fullmatch("x".join([r"[1-9]\d{0,4}"] * wanted), sides):
        shape = f": {wanted} sides" if name in known else ""
        raise UserError(
            f"{text!r} is no topology{shape}",
            where="--topology",
            allowed=f"a chip of {', '.join(known)}, and its sides, such as {EXAMPLES}",
        )
    return Topology(CHIPS[name], tuple(map(int, sides.split("x"))))


def compiler(topology: Topology) -> str:
    """The package that compiles for it, with its version; "" where none is installed."""
    for package in COMPILERS[topology.chip.platform]:
        try:
            return f"{package} {importlib.metadata.version(package)}"
        except importlib.metadata.PackageNotFoundError:
            continue
    return ""


def ready() -> None:
    """Has JAX look for no device but a CPU. Call it before JAX is used."""
    os.environ |= {
        "TPU_WORKER_HOSTNAMES": "localhost",
        "TPU_SKIP_MDS_QUERY": "1",
        "TPU_ACCELERATOR_TYPE": "v5p-8",  # any: libtpu warns that it finds none, and goes by the topology
        "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # plans beside each other
        "JAX_SKIP_CUDA_CONSTRAINTS_CHECK": "1",
    }
    jax.config.update("jax_platforms", "cpu")


def devices(topology: Topology) -> list[Any]:
    """Its devices, for which programs can be lowered and compiled, and on which nothing can be run.

    Raises:
      UserError: the compiler knows no such topology.
    """
    from jax.experimental import topologies

    chip = topology.chip
    try:
        if chip.platform == "tpu":
            described = topologies.get_topology_desc(platform="tpu", topology_name=topology.name)
        else:
            nodes, of_node = topology.sides
            sides = f"1x{nodes}x{of_node}"
            described = topologies.get_topology_desc(platform="cuda", target_config=target(chip.name), topology=sides)
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"{compiler(topology)} has no topology {topology.name}: {str(error).splitlines()[0]}",
            where="--topology",
            allowed=f"one that its maker builds, such as {EXAMPLES}",
        ) from error
    return list(described.devices)


def target(name: str) -> str:
    """What the compiler reads of a GPU: the text of a GpuTargetConfigProto."""
    text = (TARGETS / f"{name}.txtpb").read_text(encoding="utf-8")
    return text if jax.__version_info__ >= SINCE else re.sub(rf"(?m)^ *(?:{'|'.join(NEWER)}): .*\n", "", text)


def _described(name: str) -> bool:
    return (TARGETS / f"{name}.txtpb").is_file()
