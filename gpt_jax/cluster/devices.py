"""Whether a training fits the devices that it asks a cluster for."""

import re
from collections.abc import Sequence

from gpt_jax.config import Config
from gpt_jax.mesh import mesh as meshes
from gpt_jax.mesh import spread


def check(config: Config, devices: int) -> None:
    """Raises:
    UserError: the mesh, the batch or the model cannot be split over so many devices.
    """
    mesh = meshes.abstract(config.mesh, devices)
    meshes.check_batch(mesh, config.train.batch, config.train.accumulate)
    spread.check(mesh, config)


def of_slurm(options: Sequence[str]) -> int:
    """GPUs that options of sbatch ask for, as far as --nodes and --gpus-per-node say so; else 0."""
    given = dict(re.findall(r"--(nodes|gpus-per-node)=(?:\w+:)?(\d+)(?:\s|$)", " ".join(options)))
    return int(given["nodes"]) * int(given["gpus-per-node"]) if len(given) == 2 else 0
