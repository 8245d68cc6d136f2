"""Training steps compiled for a GPU that is not there, by the compiler of JAX's CUDA wheels (requirements/gpu.txt)."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import topologies
from jax.sharding import AxisType, Mesh

from gpt_jax.config import Config
from gpt_jax.mesh import mesh as meshes
from gpt_jax.train import losses
from gpt_jax.train.step import hyper_scalars, make_program

TARGETS = Path(__file__).parent / "targets"
PREALLOCATED = 0.75  # of a GPU's memory, JAX's default
# Compilers before JAX 0.11 refuse a description that has fields unknown to them.
NEWER, SINCE = ("mem_clock_ghz", "reserved_shared_memory_per_block"), (0, 11)
NEWER += ("max_blocks_per_multiprocessor", "collective_memory_granularity")


def target(chip: str) -> str:
    """What this compiler reads of a chip: the text of a GpuTargetConfigProto."""
    text = (TARGETS / f"{chip}.txtpb").read_text(encoding="utf-8")
    return text if jax.__version_info__ >= SINCE else re.sub(rf"(?m)^ *(?:{'|'.join(NEWER)}): .*\n", "", text)


def mesh_of(chip: str) -> Mesh:
    """One such GPU, which can be compiled for.

    Raises:
      RuntimeError: the compiler is not installed.
    """
    try:
        devices = topologies.get_topology_desc(platform="cuda", target_config=target(chip), topology="1x1x1").devices
    except (RuntimeError, ValueError) as error:
        raise RuntimeError(f"no compiler for GPUs: {error}\ninstall requirements/gpu.txt") from error
    axes = meshes.AXES
    return Mesh(np.array(devices[:1]).reshape((1,) * len(axes)), axes, axis_types=(AxisType.Auto,) * len(axes))


@contextlib.contextmanager
def as_if_on(chip: str) -> Iterator[None]:
    """JAX names the platform of the chip, and the loss reckons with its memory."""
    found = re.search(r"device_memory_size: (\d+)", target(chip))
    memory = int(found[1]) if found else 0
    elements = int(PREALLOCATED * memory) // losses.MEMORY_PER_LOGIT
    with mock.patch.object(jax, "default_backend", lambda: "gpu"):
        with mock.patch.object(losses, "logits_at_once", lambda: elements):
            yield


def compiled_step(config: Config, chip: str) -> jax.stages.Compiled:
    """The training step of a run on one such GPU."""
    mesh = mesh_of(chip)
    with as_if_on(chip), jax.set_mesh(mesh):
        program = make_program(config, mesh)
        sharding = meshes.batch_sharding(mesh)
        shape = (config.train.batch, config.model.context)
        dtypes = {"tokens": jnp.int32, "targets": jnp.int32, "weights": jnp.float32}
        batch = {name: jax.ShapeDtypeStruct(shape, dtype, sharding=sharding) for name, dtype in dtypes.items()}
        return program.step.lower(program.live, batch, hyper_scalars(config)).compile()
