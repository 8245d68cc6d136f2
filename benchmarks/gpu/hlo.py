"""The kernels of a program in optimised HLO: what each reads, writes and multiplies, and what part of a step it is."""

import collections
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from gpt_jax.mesh.planning.hlo import SHAPE, Computation, Instruction, dimensions, dot_flops, parse, shape, size, turns

FREE = {"parameter", "get-tuple-element", "tuple", "bitcast", "constant", "after-all", "optimization-barrier"}
SLICES = {"dynamic-slice", "slice", "gather"}


@dataclass(frozen=True)
class Kernel:
    """What is launched ``count`` times a step, and the bytes and FLOPs of once."""

    instruction: Instruction
    operands: tuple[str, ...]  # their types
    count: int
    read: int
    written: int
    flops: int

    @property
    def kind(self) -> str:
        """ "fusion" and such, or the library that a custom call goes to."""
        return self.instruction.attribute(r'custom_call_target="([^"]*)"') or self.instruction.op


def kernels(text: str) -> list[Kernel]:
    """What a call of the program launches; loops by their known number of turns, once where that is not known."""
    computations, entry = parse(text)
    return list(_kernels(computations, entry, 1))


def _kernels(computations: Mapping[str, Computation], name: str, times: int) -> Iterator[Kernel]:
    computation = computations[name]
    for i in computation.values():
        if i.op in FREE:
            continue
        if i.op == "while":
            yield from _kernels(computations, i.attribute(r"body=%([\w.\-]+)"), times * turns(i, computations))
        elif i.op == "call":
            yield from _kernels(computations, i.attribute(r"to_apply=%([\w.\-]+)"), times)
        else:
            yield _kernel(computations, computation, i, times)


def _kernel(computations: Mapping[str, Computation], computation: Computation, i: Instruction, times: int) -> Kernel:
    operands = tuple(computation[name].type for name in i.operands if name in computation)
    read, written, flops = sum(map(size, operands)), size(i.type), 0
    if i.op == "fusion":
        read, written, flops = _fusion(computations[i.attribute(r"calls=%([\w.\-]+)")], i.type)
    elif i.op == "custom-call":
        flops = _custom_flops(i, computation)
        written -= sum(size(f"u8[{n}]") for n in re.findall(r"\b[su]8\[(\d+)\]", i.type))  # room to work in
    elif i.op == "dot":
        flops = dot_flops(i, computation)
    return Kernel(i, operands, times, read, written, flops)


def _fusion(body: Computation, out: str) -> tuple[int, int, int]:
    """Bytes read and written and FLOPs: of what is only sliced, the slices; of what is updated in place, the update."""
    users = collections.defaultdict(list)
    for i in body.values():
        for name in i.operands:
            users[name].append(i)

    def through(name: str) -> list[tuple[Instruction, str]]:
        """Who uses it, bitcasts left out, and under which name."""
        found = []
        for user in users[name]:
            found += through(user.name) if user.op == "bitcast" else [(user, name)]
        return found

    def origin(i: Instruction) -> Instruction:
        return origin(body[i.operands[0]]) if i.op == "bitcast" else i

    root = next(i for i in body.values() if i.root)
    outputs = [origin(body[name]) for name in root.operands] if root.op == "tuple" else [origin(root)]
    updates = [i for i in outputs if i.op == "dynamic-update-slice"]
    written = size(out) + sum(size(body[i.operands[1]].type) - size(i.type) for i in updates)
    read = flops = 0
    for i in body.values():
        if i.op == "parameter":
            uses = through(i.name)
            part = [u for u, name in uses if u.op in (*SLICES, "dynamic-update-slice") and u.operands[0] == name]
            sliced = uses and len(part) == len(uses)
            read += sum(size(u.type) for u in part if u.op in SLICES) if sliced else size(i.type)
        elif i.op == "dot":
            flops += dot_flops(i, body)
        elif i.op == "custom-call":
            flops += _custom_flops(i, body)
            written -= sum(size(f"u8[{n}]") for n in re.findall(r"\b[su]8\[(\d+)\]", i.type))
    return read, max(written, 0), flops


def _custom_flops(i: Instruction, computation: Computation) -> int:
    """Of cuBLAS's products, and of cuDNN's attention where half of the scores are not computed, as they are not seen."""
    target = i.attribute(r'custom_call_target="([^"]*)"')
    if "cublas" in target:
        axes = re.findall(r'"(\d+)"', i.attribute(r'"lhs_contracting_dimensions":\[([^\]]*)\]'))
        left = shape(computation[i.operands[0]].type)
        return 2 * math.prod(shape(i.type)) * math.prod(left[int(a)] for a in axes)
    if "fmha" in target:
        b, t, n, h = shape(computation[i.operands[0]].type)
        return (5 if "Backward" in target else 2) * b * n * t * t * h
    return 0


def category(kernel: Kernel, vocab: int, width: int) -> str:
    """The part of a training step that a kernel belongs to, by its types and by what of our program it comes from.

    Args:
      vocab, width: V and D: arrays with V that are neither of a vector nor of V rows of channels are logits.
    """
    i = kernel.instruction
    logits = has_logits((i.type, *kernel.operands), vocab, width)
    if "fmha" in kernel.kind:
        return "attention"
    if kernel.flops:
        return "products of the logits" if logits else "products"
    if logits:
        return "loss"
    if re.search("scatter|gather|sort", f"{i.name} {i.source}"):
        return "embedding"
    if "train_step" in i.source and "jvp" not in i.source:
        return "optimizer"
    if re.search("^(copy|(wrapped|input|loop)_(transpose|slice|concatenate|convert)_?(fusion)?[.\\d]*$)", i.name):
        return "copies and casts"
    return "sums over tokens or channels" if "reduce" in i.name else "elementwise"


def has_logits(types: tuple[str, ...], vocab: int, width: int) -> bool:
    arrays = [dimensions(text) for kind in types for _, text in SHAPE.findall(kind)]
    return any(vocab in sizes and math.prod(sizes) // vocab not in (1, width) for sizes in arrays)
