"""Optimised HLO as text: its computations and their instructions."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s16": 2, "u16": 2, "f32": 4, "s32": 4, "u32": 4} | {
    "f64": 8,
    "s64": 8,
    "u64": 8,
}
SHAPE = re.compile(r"\b([a-z]\w*)\[([\d,]*)\]")
HEAD = re.compile(r"(ENTRY )?%([\w.\-]+) \(.*\) -> .* \{$")
CALLS = re.compile(r"(?:to_apply|body|calls)=%([\w.\-]+)")
CALLING = ("while", "call", "fusion", "conditional", "async-start")
LINE = re.compile(r"\s+(ROOT )?%([\w.\-]+) = (.*)$")


@dataclass(frozen=True)
class Instruction:
    """A line of HLO: %name = type op(operands), attributes; or constant(value)."""

    name: str
    type: str
    op: str
    operands: tuple[str, ...]
    attributes: str
    root: bool
    value: str = ""

    def attribute(self, pattern: str) -> str:
        """The first group of the pattern in the attributes, or ""."""
        found = re.search(pattern, self.attributes)
        return found[1] if found else ""

    @property
    def source(self) -> str:
        """What of our program it comes from: JAX's name stack."""
        return self.attribute(r'op_name="([^"]*)"')


Computation = dict[str, Instruction]


def parse(text: str) -> tuple[dict[str, Computation], str]:
    """All computations by name, and the name of the entry."""
    computations: dict[str, Computation] = {}
    entry, current = "", None
    for line in text.splitlines():
        if head := HEAD.match(line):
            current = computations[head[2]] = {}
            entry = head[2] if head[1] else entry
        elif current is not None and (found := LINE.match(line)):
            instruction = _instruction(found[2], re.sub(r"/\*.*?\*/", "", found[3]), bool(found[1]))
            current[instruction.name] = instruction
    return computations, entry


def _instruction(name: str, rest: str, root: bool) -> Instruction:
    end = _closing(rest, 0) + 1 if rest.startswith("(") else rest.index(" ")
    kind, rest = rest[:end], rest[end:].strip()
    start = rest.index("(")
    end = _closing(rest, start)
    operands, op = tuple(re.findall(r"%([\w.\-]+)", rest[start:end])), rest[:start]
    value = rest[start + 1 : end] if op == "constant" else ""
    return Instruction(name, kind, op, operands, rest[end + 1 :], root, value)


def _closing(text: str, start: int) -> int:
    depth = 0
    for i in range(start, len(text)):
        depth += (text[i] == "(") - (text[i] == ")")
        if not depth:
            return i
    raise ValueError(f"no closing bracket in {text[:80]}")


def turns(loop: Instruction, computations: Mapping[str, Computation]) -> int:
    """Of a while loop; 1 where nothing says how many. A TPU's compiler says it in the condition alone, which compares what
    counts from 0 on with a constant."""
    if known := loop.attribute(r'known_trip_count":\{"n":"(\d+)"'):
        return int(known)
    condition = computations.get(loop.attribute(r"condition=%([\w.\-]+)"), {})
    compared = next((i for i in condition.values() if i.root and i.op == "compare"), None)
    if compared is None or "direction=LT" not in compared.attributes:
        return 1
    limit = condition.get(compared.operands[-1])
    return int(limit.value) if limit is not None and limit.op == "constant" and limit.value.isdigit() else 1


def size(kind: str) -> int:
    """Bytes of a type; a tuple's is the sum."""
    return sum(BYTES.get(dtype, 0) * math.prod(dimensions(shape)) for dtype, shape in SHAPE.findall(kind))


def shape(kind: str) -> list[int]:
    """Axis sizes of a type, of a tuple's first member."""
    found = SHAPE.search(kind)
    return dimensions(found[2]) if found else []


def dimensions(text: str) -> list[int]:
    return [int(n) for n in text.split(",") if n]


def products(text: str) -> int:
    """FLOPs of the matrix products of a call of a program, those in loops as often as they run."""
    computations, entry = parse(text)
    return _products(computations, entry)


def dot_flops(i: Instruction, computation: Computation) -> int:
    """Of a product."""
    axes = dimensions(i.attribute(r"lhs_contracting_dims=\{([\d,]*)\}"))
    left = shape(computation[i.operands[0]].type)
    return 2 * math.prod(shape(i.type)) * math.prod(left[a] for a in axes)


def _products(computations: Mapping[str, Computation], name: str) -> int:
    found = 0
    for i in computations[name].values():
        if i.op == "dot":
            found += dot_flops(i, computations[name])
        elif i.op in CALLING:
            inner = sum(_products(computations, called) for called in CALLS.findall(i.attributes))
            found += inner * (turns(i, computations) if i.op == "while" else 1)
    return found
