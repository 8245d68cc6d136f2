"""Training steps compiled for a GPU that is not there, by the compiler of JAX's CUDA wheels (requirements/gpu.txt)."""

import contextlib
import re
from collections.abc import Iterator
from unittest import mock

import jax

from gpt_jax.backend import compiling_for
from gpt_jax.config import Config
from gpt_jax.mesh import mesh as meshes
from gpt_jax.mesh.planning import topology as topologies
from gpt_jax.train import losses
from gpt_jax.train.plan import lowered

PREALLOCATED = 0.75  # of a GPU's memory, JAX's default


@contextlib.contextmanager
def as_if_on(chip: str) -> Iterator[None]:
    """Programs are traced for GPUs, and the loss reckons with the chip's memory."""
    found = re.search(r"device_memory_size: (\d+)", topologies.target(chip))
    memory = int(found[1]) if found else 0
    elements = int(PREALLOCATED * memory) // losses.MEMORY_PER_LOGIT
    with compiling_for("gpu"), mock.patch.object(losses, "logits_at_once", lambda: elements):
        yield


def compiled_step(config: Config, chip: str) -> jax.stages.Compiled:
    """The training step of a run on one such GPU.

    Raises:
      RuntimeError: the compiler is not installed.
    """
    topology = topologies.parse(f"{chip}:1x1")
    if not topologies.compiler(topology):
        raise RuntimeError("no compiler for GPUs\ninstall requirements/gpu.txt")
    with as_if_on(chip):
        return lowered(config, meshes.over(config.mesh, topologies.devices(topology))).compile()
