"""What a compiled program sends between devices: its collectives, in bytes and by the axes of the mesh that they cross."""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from gpt_jax.mesh.planning.hlo import CALLING, CALLS, Computation, Instruction, parse, size, turns

# Bytes that a device sends, by those of its result and the devices n of a group: rings, which send least.
SENT = {
    "all-gather": lambda result, n: result * (n - 1) / n,
    "all-reduce": lambda result, n: 2 * result * (n - 1) / n,
    "reduce-scatter": lambda result, n: result * (n - 1),
    "all-to-all": lambda result, n: result * (n - 1) / n,
    "collective-permute": lambda result, n: result,
}
BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
LISTED = re.compile(r"\{([\d,]+)\}")
NAMED = re.compile(r"replica_groups=mesh\[([^\]]*)\](?:, device_ids=\(\[([\d,]+)\](?:T\(([\d,]+)\))?\))? \{([^}]*)\}")
NAMED_AXIS = re.compile(r"'(\w+)'(?::\((\d+)\)(\d+))?")  # or a factor of one: 'axis':(those to its left)its size
CHANNEL = r"channel_id=(\d+)"
SCATTERED = (
    "all-reduce-scatter"  # how a TPU's compiler calls a fusion of an all-reduce and the part that a device keeps
)
COUNTED = re.compile(r"replica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?")


@dataclass(frozen=True)
class Collective:
    """A collective of a program.

    Args:
      kind: of ``SENT``.
      axes: of the mesh, that its groups of devices cross.
      sent: bytes that a device sends, once.
      times: that it runs; loops of an unknown number of turns count as one.
      source: JAX's name stack.
    """

    kind: str
    axes: tuple[str, ...]
    sent: float
    times: int
    source: str


def collectives(text: str, mesh: Mapping[str, int]) -> list[Collective]:
    """Those of a call of a program.

    Args:
      text: ``Compiled.as_text()``.
      mesh: axis -> devices along it, of the mesh that it was compiled for, in its order.
    """
    computations, entry = parse(text)
    return list(_of_computation(computations, entry, 1, mesh))


def by_axes(found: list[Collective]) -> dict[tuple[tuple[str, ...], str], float]:
    """(axes, kind) -> bytes that a device sends."""
    sums: dict[tuple[tuple[str, ...], str], float] = {}
    for one in found:
        key = one.axes, one.kind
        sums[key] = sums.get(key, 0) + one.sent * one.times
    return sums


def _of_computation(
    computations: Mapping[str, Computation],
    name: str,
    times: int,
    mesh: Mapping[str, int],
    begun: set[str] | None = None,
) -> Iterator[Collective]:
    """
    Args:
      begun: within a fusion, channels of those before it: on a TPU several overlap with one collective, a part of each.
    """
    of_fusions: set[str] = set()
    for i in computations[name].values():
        kind, channel = i.op.removesuffix("-start"), i.attribute(CHANNEL)
        if kind in SENT and (begun is None or channel not in begun):
            if begun is not None:
                begun.add(channel)
            groups = _groups(i, math.prod(mesh.values()))
            count = len(groups[0]) if groups else 1
            result = _result(i, kind)
            if name.startswith(SCATTERED):
                kind, result = "reduce-scatter", result // count
            sent = SENT[kind](result, count)
            if sent:
                yield Collective(kind, _axes(groups, mesh), sent, times, i.source)
        elif i.op in CALLING:
            inner = times * (turns(i, computations) if i.op == "while" else 1)
            branches = re.findall(r"%([\w.\-]+)", i.attribute(BRANCHES.pattern))
            within = of_fusions if i.op == "fusion" else None
            for called in [*CALLS.findall(i.attributes), *branches]:
                yield from _of_computation(computations, called, inner, mesh, within)


def _result(i: Instruction, kind: str) -> int:
    """Bytes of what it makes. The type of a start names its operands first, but for an all-reduce's."""
    if not i.op.endswith("-start") or kind == "all-reduce":
        return size(i.type)
    return size(i.type) - size(_first_member(i.type))


def _first_member(kind: str) -> str:
    """Of (a, b, …), each of which may be a tuple."""
    depth, first = 0, ""
    for letter in kind[1:-1]:
        depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and not depth:
            break
        first += letter
    return first


def _groups(i: Instruction, devices: int) -> list[list[int]]:
    """The devices that exchange with each other; of a permutation, every pair.

    Raises:
      ValueError: they are given in a way that is not known.
    """
    if named := NAMED.search(i.attributes):
        return _along(named[1], _ordered(devices, named[2] or str(devices), named[3]), named[4])
    if counted := COUNTED.search(i.attributes):
        return _ordered(devices, counted[2], counted[3]).reshape(_numbers(counted[1])).tolist()
    found = i.attribute(r"(?:replica_groups|source_target_pairs)=\{(\{[\d,{}]*\})\}")
    listed = [[int(n) for n in group.split(",")] for group in LISTED.findall(found)]
    if not listed and "replica_groups=" in i.attributes and "replica_groups={}" not in i.attributes:
        raise ValueError(f"these groups of devices cannot be read: {i.attributes}")
    return listed or [list(range(devices))]


def _ordered(devices: int, shape: str, axes: str | None) -> np.ndarray:
    """Their numbers in the order of an array of so many axes, transposed."""
    ids = np.arange(devices).reshape(_numbers(shape))
    return ids.transpose(_numbers(axes)) if axes else ids


def _numbers(text: str) -> list[int]:
    return [int(n) for n in text.split(",")]


def _along(mesh: str, ids: np.ndarray, axes: str) -> list[list[int]]:
    """The groups of devices along some axes of a mesh, as "'a'=4,'b'=2" and "'b'"."""
    sizes = {name: int(size) for name, size in re.findall(r"'(\w+)'=(\d+)", mesh)}
    factors: list[int] = []
    crossed: list[int] = []
    asked = {name: (int(left or 1), int(part or sizes[name])) for name, left, part in NAMED_AXIS.findall(axes)}
    for name, whole in sizes.items():
        left, own = asked.get(name, (1, 1))
        crossed.append(len(factors) + 1)
        factors += [left, own, whole // left // own]
    kept = [axis for axis in range(len(factors)) if axis not in crossed]
    return (
        ids.reshape(factors)
        .transpose([*kept, *crossed])
        .reshape(-1, math.prod(factors[axis] for axis in crossed))
        .tolist()
    )


def _axes(groups: list[list[int]], mesh: Mapping[str, int]) -> tuple[str, ...]:
    places = np.stack(np.unravel_index(np.arange(math.prod(mesh.values())), tuple(mesh.values())))
    crossed = np.zeros(len(mesh), bool)
    for group in groups:
        of_group = places[:, group]
        crossed |= (of_group != of_group[:, :1]).any(1)
    return tuple(axis for axis, differs in zip(mesh, crossed, strict=True) if differs)
