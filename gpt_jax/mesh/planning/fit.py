"""The fastest settings that fit a chip: batch, recomputation and mesh, by closed forms (``roofline``)."""

import dataclasses
import itertools
import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from gpt_jax.config import Config, ModelConfig, value_at
from gpt_jax.errors import UserError
from gpt_jax.mesh.context_strategy import strategy_of
from gpt_jax.mesh.mesh import AXES, sizes
from gpt_jax.mesh.pipeline import cuts, microbatches
from gpt_jax.mesh.planning.chips import Chip
from gpt_jax.mesh.planning.roofline import HALF, SINGLE, Estimate, Layout, Shape, estimate, memory
from gpt_jax.model.mlp import moe
from gpt_jax.overrides import changed

ROOM = 0.9  # of a chip's memory, that a step may be thought to need
MOST_TENSOR = 16  # devices that split a layer's products: with more, they are too small


@dataclass(frozen=True)
class Proposal:
    """Settings for a number of devices.

    Args:
      knobs: those that differ, "model.remat" -> its value.
      estimate, memory: of a step; bytes of a device.
    """

    knobs: dict[str, Any]
    estimate: Estimate
    memory: float

    def applied(self, config: Config) -> Config:
        return Config.from_dict(changed(config.to_dict(), self.knobs))

    @property
    def flags(self) -> str:
        return " ".join(f"--config.{name}={value}" for name, value in self.knobs.items())


def layout_of(config: Config, axes: dict[str, int], options: int = 1) -> Layout:
    """Of a step of the configuration on such a mesh.

    Args:
      options: texts of an example, of which ``train.batch`` are a step; 2 of pairs.
    """
    return _layout(config, axes, options, config.train.accumulate, config.model.remat, config.model.dtype)


def unfit(config: Config, devices: int, chip: Chip, options: int = 1) -> str:
    """Why the configuration as it is cannot be trained on so many of the chip; "" where it may be.

    Args:
      options: as of ``layout_of``.
    """
    try:
        axes = dict(zip(AXES, sizes(config.mesh, devices), strict=True))
    except UserError as error:
        return str(error)
    step = config.train.accumulate * _shards(axes)
    if config.train.batch % step:
        return f"train.batch = {config.train.batch} is no multiple of {step}, data * fsdp * expert * train.accumulate"
    needed = memory(_shape(config.model), layout_of(config, axes, options))
    if needed > chip.memory:
        return f"a step needs about {needed / 1e9:.3g} GB on each device, which has {chip.memory / 1e9:.3g}"
    return ""


def proposals(
    config: Config, devices: int, chip: Chip, given: Collection[str] = (), options: int = 1
) -> list[Proposal]:
    """Settings that fit, the fastest first.

    Args:
      given: knobs that stay as they are, as "mesh.fsdp".
      options: as of ``layout_of``.

    Raises:
      UserError: none fits.
    """
    found, least = [], math.inf
    shape = _shape(config.model)
    for knobs in _candidates(config, devices, chip, frozenset(given)):
        axes = {name.removeprefix("mesh."): size for name, size in knobs.items() if name.startswith("mesh.")}
        asked = (knobs[name] for name in ("train.accumulate", "model.remat", "model.dtype"))
        layout = _layout(config, axes, options, *asked)
        needed = memory(shape, layout)
        least = min(least, needed)
        if needed <= ROOM * chip.memory:
            found.append(Proposal(_differing(config, knobs), estimate(shape, layout, chip), needed))
    if not found:
        more = f"; the least that it needs is {least / 1e9:.3g} GB a device" if least < math.inf else ""
        raise UserError(
            f"no mesh of {devices} fits {chip.name}{more}",
            where="--devices, --chip",
            allowed=f"{ROOM:.0%} of {chip.memory / 1e9:.3g} GB a device",
            fix="more devices, a train.batch with more divisors, a smaller model",
        )
    return sorted(found, key=lambda proposal: (proposal.estimate.seconds, proposal.memory))


def _candidates(config: Config, devices: int, chip: Chip, given: frozenset[str]) -> Iterator[dict[str, Any]]:
    """Knobs of every mesh, number of micro-batches and recomputation that the model and the batch divide over."""
    m, batch = config.model, config.train.batch
    experts = moe.settings(m.mlp).experts

    def free(name: str, options: Collection[Any]) -> Collection[Any]:
        value = value_at(config, name)
        return (value,) if name in given and value != -1 else options

    tensors = [n for n in _divisors(devices) if n <= min(MOST_TENSOR, chip.near) and _splits(m, n)]
    cycles = m.layers // len(m.attentions)
    stages = [n for n in _divisors(devices) if n == 1 or cycles % (n * config.mesh.rounds) == 0]
    spread = [n for n in _divisors(devices) if experts % n == 0] if experts > 1 else [1]
    choices = (
        free("mesh.tensor", tensors),
        free("mesh.pipeline", stages),
        free("mesh.expert", spread),
        free("mesh.context", (1,)),
        free("mesh.fsdp", _divisors(devices)),
        free("model.remat", ("none", "full")),
    )
    for tensor, pipeline, expert, context, fsdp, remat in itertools.product(*choices):
        inner = tensor * pipeline * expert * context * fsdp
        if devices % inner or ("mesh.data" in given and config.mesh.data not in (-1, devices // inner)):
            continue
        data = devices // inner
        if batch % (data * fsdp * expert):
            continue
        rows = batch // (data * fsdp * expert)
        for accumulate in free("train.accumulate", (1,) if pipeline > 1 else _divisors(rows)):
            if rows % accumulate or (pipeline > 1 and not cuts(config.mesh, pipeline, rows // accumulate)):
                continue
            knobs = {"model.dtype": "bfloat16" if "model.dtype" not in given else m.dtype, "model.remat": remat}
            knobs |= {"train.accumulate": accumulate, "mesh.data": data, "mesh.fsdp": fsdp, "mesh.tensor": tensor}
            knobs |= {"mesh.context": context, "mesh.expert": expert, "mesh.pipeline": pipeline}
            if pipeline > 1 and m.scan is not True and "model.scan" not in given:
                knobs["model.scan"] = True
            yield knobs


def _layout(config: Config, axes: dict[str, int], options: int, accumulate: int, remat: str, dtype: str) -> Layout:
    rows = max(1, config.train.batch // accumulate // _shards(axes))
    stages = axes.get("pipeline", 1)
    count = microbatches(config.mesh, stages, rows) if stages > 1 else 1
    remat = remat if remat == "full" else "none"
    gradients = SINGLE if dtype == "float32" else HALF  # they are added up in the type that they are computed in
    strategy, batch = strategy_of(config.mesh), config.train.batch * options
    return Layout(axes, batch, accumulate, remat, config.mesh.rounds, count, strategy, gradients)


def _differing(config: Config, knobs: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in knobs.items() if value_at(config, name) != value}


def _splits(m: ModelConfig, n: int) -> bool:
    return all(size % n == 0 for size in (m.heads, m.kv_heads, m.mlp_width, m.context))


def _shards(axes: dict[str, int]) -> int:
    return math.prod(axes.get(axis, 1) for axis in ("data", "fsdp", "expert"))


def _divisors(n: int) -> list[int]:
    return [d for d in range(1, n + 1) if n % d == 0]


def _shape(model: ModelConfig) -> Shape:
    return Shape.of(dataclasses.replace(model, scan=True))
