"""What a training step on a GPU should look like, read in its optimised HLO; what it should not have is named."""

import re
from collections.abc import Mapping

from benchmarks.gpu import hlo
from gpt_jax.config import Config

WAITS = {"infeed", "outfeed", "send", "recv", "send-done", "recv-done"}
MOVES = re.compile(r"^(copy|transpose|(wrapped|input|loop)_transpose)")


def broken(text: str, config: Config) -> list[str]:
    """What is wrong with the step of a GPT-2 in half precision with a loss in one pass; empty if nothing is."""
    computations, entry = hlo.parse(text)
    main = computations[entry]
    launched = hlo.kernels(text)
    all_instructions = [i for computation in computations.values() for i in computation.values()]
    return [
        *_moved_beside_attention(main, config.model.layers),
        *_logits(launched, config),
        *_embedding(all_instructions, config),
        *(f"{i.name} waits for the host" for i in all_instructions if i.op in WAITS or "host" in _target(i)),
        *(f"{i.name} adds in an order that differs from run to run" for i in all_instructions if _atomic(i)),
        *(f"{i.name} is a loop" for i in all_instructions if i.op == "while"),
    ]


def _target(i: hlo.Instruction) -> str:
    return i.attribute(r'custom_call_target="([^"]*)"').lower()


def _atomic(i: hlo.Instruction) -> bool:
    return i.op == "scatter" and "unique_indices=true" not in i.attributes


def _moved_beside_attention(main: Mapping[str, hlo.Instruction], layers: int) -> list[str]:
    users: dict[str, list[hlo.Instruction]] = {}
    for i in main.values():
        for name in i.operands:
            users.setdefault(name, []).append(i)

    def makers(name: str) -> list[hlo.Instruction]:
        i = main[name]
        return makers(i.operands[0]) if i.op in ("bitcast", "get-tuple-element") else [i]

    def readers(i: hlo.Instruction) -> list[hlo.Instruction]:
        found = []
        for user in users.get(i.name, []):
            found += readers(user) if user.op in ("bitcast", "get-tuple-element") else [user]
        return found

    calls = [i for i in main.values() if "fmha" in _target(i)]
    faults = [] if len(calls) == 2 * layers else [f"{len(calls)} calls of cuDNN's attention, of {2 * layers}"]
    for call in calls:
        beside = [maker for name in call.operands for maker in makers(name)] + readers(call)
        faults += [f"{i.name} moves what {call.name} reads or writes" for i in beside if MOVES.match(i.name)]
    return faults


def _logits(launched: list[hlo.Kernel], config: Config) -> list[str]:
    m, tokens = config.model, config.train.batch * config.model.context
    products = [k for k in launched if hlo.category(k, m.vocab, m.width) == "products of the logits"]
    faults = []
    if len(products) != 3 or any(k.flops != 2 * tokens * m.vocab * m.width or k.count != 1 for k in products):
        faults.append(f"the logits take {sum(k.count for k in products)} products, where 3 compute all of them once")
    wide = [
        k
        for k in products
        for kind in k.operands
        if kind.startswith("f32") and hlo.has_logits((kind,), m.vocab, m.width)
    ]
    return faults + [f"{k.instruction.name} multiplies float32 logits" for k in wide]


def _embedding(instructions: list[hlo.Instruction], config: Config) -> list[str]:
    m = config.model
    narrow = re.compile(rf"^bf16\[{m.vocab},{m.width}\]")
    cast = {i.name for i in instructions if narrow.match(i.type)}
    return [
        f"{i.name} gathers from an embedding that was cast"
        for i in instructions
        if i.op == "gather" and i.operands[0] in cast
    ]
