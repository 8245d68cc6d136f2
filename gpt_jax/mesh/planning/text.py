"""A plan as text."""

import math
import re
from dataclasses import replace

from gpt_jax.errors import UserError
from gpt_jax.mesh import rules
from gpt_jax.mesh.pipeline import Schedule
from gpt_jax.mesh.planning.budget import by_group
from gpt_jax.mesh.planning.chips import GB, Chip
from gpt_jax.mesh.planning.fit import Proposal
from gpt_jax.mesh.planning.plan import Plan
from gpt_jax.mesh.planning.roofline import Estimate
from gpt_jax.mesh.planning.savings import Knob
from gpt_jax.mesh.planning.topology import EXTRAS, Topology

TIME_CONVENTION = "nanogpt"  # of the FLOPs that a chip's time is worked out from


SHOWN = 5  # proposals


def render_proposals(chosen: Proposal, found: list[Proposal], reason: str, chip: Chip, devices: int) -> str:
    """Settings that fit, as flags, and the fastest of all.

    Args:
      reason: why the configuration as it is does not fit; "" where it does.
    """
    lines = [f"as configured     {reason}"] if reason else []
    lines += [
        f"planned with      {chosen.flags or 'the configuration as it is'}",
        f"                  of {len(found):,} settings that fit {devices} x {chip.name} by estimate these are the fastest"
        + (":" if chosen is found[0] else "; those faster than it did not fit as compiled:"),
    ]
    for proposal in found[:SHOWN]:
        size, share = proposal.memory / chip.memory, proposal.estimate.utilisation(chip, devices)
        lines.append(f"  {proposal.estimate.seconds:8.4g} s, MFU {share:.0%}, memory {size:.0%}: {proposal.flags}")
    return "\n".join(lines)


def render_compiler(topology: Topology, compiler: str) -> str:
    """What compiled the step, and what would if it were installed."""
    if compiler:
        return f"compiled for       {topology.name}, {topology.count} devices, by {compiler}"
    extra = EXTRAS[topology.chip.platform]
    return (
        f"compiled for       {topology.count} virtual CPU devices: the compiler of {topology.name} is not installed\n"
        f"                   (pip install '{extra}'); temporaries and collectives are a CPU's"
    )


def render_savings(plan: Plan, tried: list[tuple[Knob, Plan | UserError]]) -> str:
    """What each knob alone would change.

    Args:
      tried: knobs, and the plan with each, or why there is none.
    """
    total = plan.memory.total if plan.memory else 0
    lines = [f"what would save memory, each alone, of {_bytes(total)} a device"]
    for knob, found in tried:
        lines.append(f"  {knob.flags}: {_saved(plan, total, found)}")
    return "\n".join(lines)


def _saved(plan: Plan, total: int, found: Plan | UserError) -> str:
    if isinstance(found, UserError):
        return f"cannot be: {found.what}"
    saved = total - (found.memory.total if found.memory else total)
    text = f"saves {_bytes(saved)}, {saved / total:.0%}" if saved > 0 else f"takes {_bytes(-saved)} more"
    if plan.estimate is None or found.estimate is None:
        return text
    return f"{text}; a step takes {found.estimate.seconds / plan.estimate.seconds:.2f} times as long, as estimated"


def render(plan: Plan, chip: Chip | None = None, price: float = 0.0) -> str:
    """A plan as text: a page of figures, then the sharding table with equal layers folded into one row.

    Args:
      chip: says as well whether it would hold the step, what to do if not, and how long a step would take.
      price: of an hour of it; 0 = nothing is said of it.
    """
    axes = " x ".join(f"{axis}={size}" for axis, size in plan.mesh.items() if size > 1) or "one device"
    lines = [
        f"mesh              {axes} (devices: {math.prod(plan.mesh.values())})",
        f"parameters        {plan.parameters.total:,}",
        f"  non-embedding   {plan.parameters.non_embedding:,} without token and position tables and an untied readout",
        *([f"  trained         {plan.trained:,}"] if plan.trained != plan.parameters.total else []),
        f"tokens per step   {plan.tokens_per_step:,} ({plan.tokens_per_step * plan.steps:,} in {plan.steps:,} steps)",
        "FLOPs per token   forward and backward, by convention (defined in gpt_jax/model/flops.py)",
        *(f"  {name:<15} {count:.4g}" for name, count in plan.flops_per_token.items()),
        "attention         mechanism: backend",
        *(f"  {call}: {chosen}" for call, chosen in plan.attention),
        *_render_memory(plan),
        *_render_sent(plan),
        *_render_pipeline(plan.schedule),
        *(_render_chip(plan, chip, price) if chip else []),
        "",
        *_render_table(plan.table),
    ]
    return "\n".join(lines) + "\n"


def _render_memory(plan: Plan) -> list[str]:
    lines = [f"memory per device of the step, compiled for {plan.backend} with attention by {plan.compiled_attention}"]
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
    lines += [f"  {part:<15} {_bytes(whole)}, {_bytes(piece)}" for part, (whole, piece) in plan.state.items()]
    lines.append("state per device  by what it is for")
    for group, sizes in by_group(plan.table).items():
        parts = ", ".join(f"{part} {_bytes(size)}" for part, size in sizes.items())
        lines.append(f"  {group:<15} {_bytes(sum(sizes.values()))}: {parts}")
    return lines


def _render_sent(plan: Plan) -> list[str]:
    """What a device sends in a step, by the axis of the mesh whose devices it exchanges with."""
    if not plan.sent:
        return []
    lines = [f"sent per device    in a step, as compiled for {plan.backend}"]
    for axes in sorted({axes for axes, _ in plan.sent}):
        kinds = {kind: size for (crossed, kind), size in sorted(plan.sent.items()) if crossed == axes}
        parts = ", ".join(f"{kind} {_bytes(round(size))}" for kind, size in kinds.items())
        lines.append(f"  {' x '.join(axes):<15} {_bytes(round(sum(kinds.values())))}: {parts}")
    return lines


def _render_pipeline(schedule: Schedule) -> list[str]:
    if schedule.stages == 1:
        return []
    rounds = f", {schedule.rounds} rounds" if schedule.rounds > 1 else ""
    return [
        f"pipeline          a stage waits {schedule.bubble:.0%} of a pass: {schedule.stages} stages{rounds}, "
        f"{schedule.count} micro-batches",
    ]


def _render_chip(plan: Plan, chip: Chip, price: float) -> list[str]:
    lines = [f"on {chip.name}"]
    if plan.memory is not None:
        share = plan.memory.total / chip.memory
        size = f"{chip.memory / GB:.3g} GB"
        if share <= 1:
            lines.append(f"  memory          fits: {share:.0%} of {size}")
        else:
            lines.append(f"  memory          DOES NOT FIT: {share:.0%} of {size}; what helps:")
            lines += [f"                  {knob.flags} {knob.why}" for knob in plan.knobs]
        if plan.backend != chip.platform:
            lines.append(
                f"                  (compiled for {plan.backend}: temporaries differ somewhat on a {chip.platform}, where"
                " the backends above compute attention)"
            )
    return lines + ([] if plan.estimate is None else _render_time(plan, plan.estimate, chip, price))


def _render_time(plan: Plan, estimate: Estimate, chip: Chip, price: float) -> list[str]:
    devices, seconds = math.prod(plan.mesh.values()), estimate.seconds
    parts = {"products": estimate.products, "attention": estimate.attention, "memory": estimate.memory}
    parts |= {f"along {axis}": time for axis, time in estimate.sent.items()} | {"waits": estimate.waits}
    shown = ", ".join(f"{name} {time / seconds:.0%}" for name, time in parts.items() if time >= 0.005 * seconds)
    rate, hours = (chip.rate or 0) / 1e12, seconds * plan.steps / 3600
    cost = f", {hours * devices * price:,.0f} at {price:g} an hour" if price else ""
    return [
        f"  time            {seconds:.4g} s a step, as estimated (docs/planning.md says how far off that may be)",
        f"                  {shown}",
        f"                  MFU {estimate.utilisation(chip, devices):.0%} ({TIME_CONVENTION}, {rate:g} TFLOP/s), "
        f"{plan.tokens_per_step / seconds / devices:,.0f} tokens/s a device",
        f"                  {hours:.4g} hours for {plan.steps:,} steps: {hours * devices:,.0f} chip-hours{cost}",
    ]


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
    names = ["+".join(axis) if isinstance(axis, tuple) else axis or "-" for axis in row.spec]
    axes = ", ".join(names) or "replicated"
    return row.path, shape, axes, _bytes(row.bytes_per_device), row.note


def _bytes(count: int) -> str:
    for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count >= size:
            return f"{count / size:.2f} {unit}"
    return f"{count} B"
