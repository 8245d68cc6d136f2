"""What a run would take, without running it: parameters, FLOPs, memory per device, and where every array lies.

Everything is worked out from shapes: the step is compiled, nothing is allocated or trained.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
from flax import nnx
from jax.sharding import Mesh

from gpt_jax.config import Config
from gpt_jax.errors import UserError, did_you_mean
from gpt_jax.mesh import mesh as meshes
from gpt_jax.mesh import rules
from gpt_jax.model import attend, flops, gpt
from gpt_jax.model.attend import auto

TIME_CONVENTION = "nanogpt"  # of the FLOPs that a chip's time is worked out from
GB = 10**9  # as data sheets count memory

# Chip -> (the name of its peak rate in ``flops.CHIPS``, bytes of memory per JAX device by the makers' data sheets).
CHIPS = {
    "a100": ("A100", 80 * GB),
    "h100": ("H100", 80 * GB),
    "h200": ("H200", 141 * GB),
    "b200": ("B200", 180 * GB),
    "v4": ("TPU v4", 32 * GB),
    "v5e": ("TPU v5e", 16 * GB),
    "v5p": ("TPU v5p", 95 * GB),
    "v6e": ("TPU v6e", 32 * GB),
}


@dataclass(frozen=True)
class Memory:
    """Bytes a device holds during a step, as the compiler reports them for the backend it compiled for.

    Args:
      arguments: the state and the batch, as passed in.
      outputs: the new state and the metrics.
      aliased: the part of the outputs that reuses the arguments' memory (donated state).
      temporaries: activations, gradients and scratch.
    """

    arguments: int
    outputs: int
    aliased: int
    temporaries: int

    @property
    def total(self) -> int:
        return self.arguments + self.outputs - self.aliased + self.temporaries


@dataclass(frozen=True)
class Plan:
    """The figures of a run. Sizes in bytes; FLOPs of one token's forward and backward pass, by convention.

    Args:
      mesh: axis -> devices along it.
      backend: what the step was compiled for.
      state: part of the state ("params", "opt", ...) -> (bytes in all, bytes per device).
      memory: of the compiled step; None where the backend does not report it.
      attention: (mechanism, the backend that computes it on the device planned for, or why that one cannot).
      table: every array of the state.
    """

    mesh: dict[str, int]
    backend: str
    parameters: flops.Parameters
    flops_per_token: dict[str, float]
    tokens_per_step: int
    steps: int
    state: dict[str, tuple[int, int]]
    memory: Memory | None
    attention: tuple[tuple[str, str], ...]
    table: tuple[rules.Placement, ...]


def virtual_devices(count: int) -> None:
    """Makes ``count`` CPU devices stand for those of a machine that is not at hand. Call it before JAX is used.

    Raises:
      UserError: a count below 1, or JAX has its devices already.
    """
    if count < 1:
        raise UserError(f"{count} devices", where="--devices", allowed="1 or more")
    jax.config.update("jax_platforms", "cpu")
    try:
        jax.config.update("jax_num_cpu_devices", count)
    except RuntimeError as error:
        raise UserError(
            f"{count} devices cannot be pretended: {error}", fix="start a new process for each plan"
        ) from error


def plan(config: Config, mesh: Mesh, state: Any, lower: Callable[[Mesh], jax.stages.Lowered], chip: str = "") -> Plan:
    """Compiles the training step for a mesh and counts.

    Args:
      state: {"step", "params", "opt", ...} of ShapeDtypeStructs.
      lower: the training step, lowered for the shapes and shardings of a mesh.
      chip: a name in ``CHIPS`` to choose attention backends for; empty = the devices at hand.

    Raises:
      UserError: there is no such chip, the batch does not divide over the mesh, or no sharding rule fits an array.
    """
    meshes.check_batch(mesh, config.train.batch, config.train.accumulate)
    table = rules.describe(state, mesh, config.mesh.rules, config.model.scan)
    model = config.model
    return Plan(
        mesh=dict(mesh.shape),
        backend=mesh.devices.flat[0].platform,
        parameters=flops.parameters(model),
        flops_per_token={c: flops.flops_per_token(model, model.context, c) for c in flops.CONVENTIONS},
        tokens_per_step=config.train.batch * model.context,
        steps=config.train.steps,
        state=_state_bytes(state, table),
        memory=_memory(lower(mesh).compile().memory_analysis()),
        attention=_attention(config, platform_of(chip) or mesh.devices.flat[0].platform),
        table=tuple(table),
    )


def platform_of(chip: str) -> str:
    """What JAX calls the platform of a chip in ``CHIPS``; empty for no chip.

    Raises:
      UserError: there is no such chip.
    """
    if not chip:
        return ""
    if chip not in CHIPS:
        raise UserError(
            f"there is no chip called {chip!r}", where="--chip", allowed=", ".join(CHIPS), fix=did_you_mean(chip, CHIPS)
        )
    return "tpu" if CHIPS[chip][0].startswith("TPU") else "gpu"


def _attention(config: Config, platform: str) -> tuple[tuple[str, str], ...]:
    m, called = config.model, {"segments"} if config.data.pack == "segments" else set()
    model = nnx.eval_shape(lambda: gpt.GPT(replace(m, scan=True), nnx.Rngs(params=0)))
    rows = []
    for j, call in enumerate(m.attentions):
        spec = getattr(model.blocks[str(j)].attention, "spec", None)
        if spec is None:
            rows.append((call, "a recurrence, no softmax"))
            continue
        features = spec.features | called
        chosen = auto.choose(platform, features, m.dtype, m.context**2).name if m.attend == "auto" else m.attend
        refusal = attend.backend(chosen).refusal(features, platform, m.dtype)
        rows.append((call, f"{chosen} {refusal}" if refusal else chosen))
    return tuple(dict.fromkeys(rows))


def render(plan: Plan, chip: str = "") -> str:
    """A plan as text: a page of figures, then the sharding table with equal layers folded into one row.

    Args:
      chip: a name in ``CHIPS``: says as well whether a device would hold the step and how long one would take at least.
    """
    axes = " x ".join(f"{axis}={size}" for axis, size in plan.mesh.items() if size > 1) or "one device"
    lines = [
        f"mesh              {axes} (devices: {math.prod(plan.mesh.values())})",
        f"parameters        {plan.parameters.total:,}",
        f"  non-embedding   {plan.parameters.non_embedding:,} without token and position tables and an untied readout",
        f"tokens per step   {plan.tokens_per_step:,} ({plan.tokens_per_step * plan.steps:,} in {plan.steps:,} steps)",
        "FLOPs per token   forward and backward, by convention (told in gpt_jax/model/flops.py)",
        *(f"  {name:<15} {count:.4g}" for name, count in plan.flops_per_token.items()),
        "attention         mechanism: backend",
        *(f"  {call}: {chosen}" for call, chosen in plan.attention),
        *_render_memory(plan),
        *(_render_chip(plan, chip) if chip else []),
        "",
        *_render_table(plan.table),
    ]
    return "\n".join(lines) + "\n"


def _state_bytes(state: Any, table: list[rules.Placement]) -> dict[str, tuple[int, int]]:
    sums: dict[str, tuple[int, int]] = {}
    for row, leaf in zip(table, jax.tree.leaves(state), strict=True):
        part = row.path.split("/")[0]
        whole, piece = sums.get(part, (0, 0))
        sums[part] = (whole + leaf.size * leaf.dtype.itemsize, piece + row.bytes_per_device)
    return sums


def _memory(analysis: Any) -> Memory | None:
    if analysis is None:
        return None
    return Memory(
        arguments=analysis.argument_size_in_bytes,
        outputs=analysis.output_size_in_bytes,
        aliased=analysis.alias_size_in_bytes,
        temporaries=analysis.temp_size_in_bytes,
    )


def _render_memory(plan: Plan) -> list[str]:
    lines = [f"memory per device of the step, compiled for {plan.backend}"]
    m = plan.memory
    if m is None:
        lines.append(f"  {plan.backend} does not report it")
    else:
        lines += [
            f"  total           {_bytes(m.total)}",
            f"  state and batch {_bytes(m.arguments)}",
            f"  temporaries     {_bytes(m.temporaries)}  activations, gradients, scratch",
            f"  outputs         {_bytes(m.outputs)}, {_bytes(m.aliased)} of it in the place of the old state",
        ]
    lines.append("state             in all, per device")
    return lines + [f"  {part:<15} {_bytes(whole)}, {_bytes(piece)}" for part, (whole, piece) in plan.state.items()]


def _render_chip(plan: Plan, chip: str) -> list[str]:
    kind, memory = CHIPS[chip]
    rate = flops.chip_peak(kind)
    lines = [f"on {chip}"]
    if plan.memory is not None:
        share = plan.memory.total / memory
        verdict = "fits" if share <= 1 else "DOES NOT FIT"
        lines.append(f"  memory          {verdict}: {share:.0%} of {memory // GB} GB (compilers differ in temporaries)")
    if rate is not None:
        work = plan.flops_per_token[TIME_CONVENTION] * plan.tokens_per_step
        seconds = work / rate / math.prod(plan.mesh.values())
        lines.append(
            f"  time            {seconds:.4g} s a step at 100% MFU ({TIME_CONVENTION}, {rate / 1e12:g} TFLOP/s)"
        )
        lines.append(f"                  {seconds * plan.steps / 3600:.4g} hours for {plan.steps:,} steps")
    return lines


def _render_table(table: tuple[rules.Placement, ...]) -> list[str]:
    """Parameters in full; then, of the rest, which follows their rules, only what could not be split as asked."""
    params = [row for row in table if row.path.startswith("params/")]
    shown = params + [row for row in table if row.note and not row.path.startswith("params/")]
    header = ("sharding of", "shape", "axes", "per device", "note")
    cells = [header, *(_cells(row, times) for row, times in _fold(shown))]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]


def _fold(table: list[rules.Placement]) -> list[tuple[rules.Placement, int]]:
    """Layers with equal rows as one, blocks/*, with their number and the sum of their bytes."""
    folded: dict[rules.Placement, list[int]] = {}
    for row in table:
        same = replace(row, path=re.sub(r"(^|/)blocks/\d+/", r"\1blocks/*/", row.path), bytes_per_device=0)
        folded.setdefault(same, []).append(row.bytes_per_device)
    return [(replace(row, bytes_per_device=sum(sizes)), len(sizes)) for row, sizes in folded.items()]


def _cells(row: rules.Placement, times: int) -> tuple[str, ...]:
    shape = "x".join(map(str, row.shape)) + (f" ({times} times)" if times > 1 else "")
    axes = ", ".join(axis or "-" for axis in row.spec) or "replicated"
    return row.path, shape, axes, _bytes(row.bytes_per_device), row.note


def _bytes(count: int) -> str:
    for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count >= size:
            return f"{count / size:.2f} {unit}"
    return f"{count} B"
