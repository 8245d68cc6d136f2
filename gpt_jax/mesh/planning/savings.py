"""Knobs that lower the memory of a step."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from jax.sharding import Mesh

from gpt_jax import registry
from gpt_jax.config import Config
from gpt_jax.mesh import mesh as meshes
from gpt_jax.mesh.planning.chips import Chip

EIGHT_BIT = {"adamw": "adamw8bit"}  # an optimizer, and the same with its state in 8 bits and the same arguments


@dataclass(frozen=True)
class Knob:
    """Settings that lower the memory of a step.

    Args:
      values: "model.remat" -> its value.
      why: what they do.
      devices: that they need; None: those of the mesh.
    """

    values: dict[str, Any]
    why: str
    devices: int | None = None

    @property
    def flags(self) -> str:
        count = "" if self.devices is None else f"--devices={self.devices} "
        return count + " ".join(f"--config.{name}={_quoted(str(value))}" for name, value in self.values.items())


def _quoted(value: str) -> str:
    return f'"{value}"' if "(" in value else value


def knobs(config: Config, mesh: Mesh, state: int, temporaries: int, chip: Chip | None) -> tuple[Knob, ...]:
    """Those that are not yet set; those for the larger part of the memory, state or temporaries, come first.

    Args:
      state, temporaries: bytes of a device.
    """
    of_temporaries = list(_for_temporaries(config, mesh, state, temporaries, chip))
    of_state = list(_for_state(config, mesh))
    return tuple(of_state + of_temporaries if state > temporaries else of_temporaries + of_state)


def _for_temporaries(config: Config, mesh: Mesh, state: int, temporaries: int, chip: Chip | None) -> Iterator[Knob]:
    m, t = config.model, config.train
    if m.remat != "full":
        yield Knob({"model.remat": "full"}, "recomputes activations in the backward pass")
    rows = t.batch // meshes.batch_shards(mesh)
    wanted = t.accumulate + 1
    if chip is not None and chip.memory > state and temporaries:
        # Temporaries are about proportional to the rows of a micro-batch.
        wanted = max(wanted, math.ceil(t.accumulate * temporaries / (chip.memory - state)))
    more = next((a for a in range(wanted, rows + 1) if rows % a == 0), rows if rows > t.accumulate else 0)
    if more:
        yield Knob({"train.accumulate": more}, f"makes micro-batches of {rows // more} x context tokens a device")
    if m.dtype == "float32":
        yield Knob({"model.dtype": "bfloat16"}, "halves the activations")


def _for_state(config: Config, mesh: Mesh) -> Iterator[Knob]:
    data, fsdp = mesh.shape["data"], mesh.shape["fsdp"]
    devices = mesh.size if data > 1 else 2 * mesh.size
    yield Knob(
        {"mesh.data": 1, "mesh.fsdp": data * fsdp * devices // mesh.size},
        f"splits the state over {devices} devices",
        devices if devices > mesh.size else None,
    )
    name, _ = registry.parse(config.optim.optimizer, where="config.optim.optimizer")
    if name in EIGHT_BIT:
        call = EIGHT_BIT[name] + config.optim.optimizer.strip().removeprefix(name)
        yield Knob({"optim.optimizer": call}, "keeps the optimizer's state in 8 bits")
