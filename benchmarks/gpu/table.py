"""The GPU suite's results as markdown: a table for each kind of measurement, figures as they were measured."""

import textwrap
from collections.abc import Mapping
from typing import Any

from benchmarks.table import markdown

STEPS = {
    "step": "124M",
    "355m": "355M",
    "774m": "774M",
    "1558m": "1558M",
    "logits": "124M, loss",
    "attention": "124M, attention",
    "layers": "124M, layers",
    "flags": "124M, XLA",
    "no_graphs": "124M, no CUDA graphs",
    "dtype": "124M, attention xla",
}
BITS = {"exact": "this process", "resumed": "another process", "recompiled": "another process, compiled anew"}


def render(results: Mapping[str, Any]) -> str:
    """All tables that there are figures for, what is missing, and what it was taken on."""
    pieces = results["pieces"]
    found = [table(pieces) for table in (rates, steps, decoding, torch, bits)]
    return "\n\n".join([text for text in (*found, missing(pieces), conditions(results)) if text])


def rates(pieces: Mapping[str, Any]) -> str:
    rows = []
    for label, part in _measured(pieces, "product"):
        if "tflops" in part:
            share = f"{part['share_of_peak']:.0%}" if part["share_of_peak"] else "–"
            rows.append([f"product {label}, bfloat16", f"{part['tflops']:.0f} TFLOP/s", share])
        elif "gb_per_second" in part:
            rows.append(["copy", f"{part['gb_per_second']:.0f} GB/s", "–"])
    return _table(["the chip", "rate", "share of its peak"], rows)


def steps(pieces: Mapping[str, Any]) -> str:
    rows = []
    for piece, name in STEPS.items():
        for label, part in _parts(pieces, piece):
            said = textwrap.shorten(part.get("error", ""), 90, placeholder=" …")
            rows.append([name, label, *([said, *["–"] * 5] if said else _step(part))])
    head = ["training step", "variant", "ms", "tokens/s", "MFU", "memory, GiB", "compiled in, s", "batch"]
    return _table(head, rows)


def _step(part: Mapping[str, Any]) -> list[str]:
    mfu = f"{part['mfu']:.1%}" if part["mfu"] else "–"
    compiled = "from the cache" if part["from_cache"] else f"{part['compile_s'] + part['lower_s']:.0f}"
    rate = f"{part['tokens_per_second']:,.0f}"
    return [f"{part['ms']:.4g}", rate, mfu, f"{part['memory_gib']:.1f}", compiled, str(part["batch"])]


def decoding(pieces: Mapping[str, Any]) -> str:
    rows = []
    for label, part in _measured(pieces, "decode"):
        figures = f"{part['ms_per_token']:.3g}", f"{part['tokens_per_second']:,.0f}", f"{part['prefill_ms']:.3g}"
        rows.append([label, *figures])
    return _table(["decoding, 124M", "ms a token", "tokens/s", "prompt, ms"], rows)


def torch(pieces: Mapping[str, Any]) -> str:
    rows = []
    for label, part in _measured(pieces, "torch"):
        times = f"{part['ours_ms']:.4g}", f"{part['torch_ms']:.4g}"
        rows.append([f"{label}, batch {part['batch']}", *times, f"{part['times_as_fast']:.2f}x"])
    return _table(["step of 124M beside torch", "gpt_jax, ms", "torch, ms", "times as fast"], rows)


def bits(pieces: Mapping[str, Any]) -> str:
    rows = []
    for piece, place in BITS.items():
        for label, part in _measured(pieces, piece):
            again = _bits(part, "again") if "again_differing" in part else "–"
            time = f"{part['ms']:.4g}" if "ms" in part else "–"
            rows.append([label, place, again, _bits(part, "resumed"), time])
    return _table(["124M, XLA's setting", "resumed in", "the same run again", "resumed half way", "step, ms"], rows)


def _bits(part: Mapping[str, Any], kind: str) -> str:
    count = part[f"{kind}_differing"]
    return f"{count:,} differ, by {part[f'{kind}_largest']:.1e} at most" if count else "the same bits"


def missing(pieces: Mapping[str, Any]) -> str:
    """The pieces that did not come to their end, and why."""
    early = {name: piece for name, piece in pieces.items() if piece["status"] != "measured"}
    said = [f"{name} ({piece['said'] or piece['status']})" for name, piece in early.items()]
    return f"Not measured, or not to the end: {'; '.join(said)}." if said else ""


def conditions(results: Mapping[str, Any]) -> str:
    machine, pieces = results["machine"], results["pieces"]
    names = ("jax", "jaxlib", "flax", "torch", "transformers")
    versions = ", ".join(f"{name} {machine['packages'][name]}" for name in names if name in machine["packages"])
    cards = sorted({part["device"] for p in pieces.values() for part in p["parts"].values() if "device" in part})
    sizes = " Toy sizes, which say nothing about the model that is named." if results["toy"] else ""
    context = "T 1024, bfloat16 and stacked layers without a loop, unless named; medians; MFU by gpt_jax/model/flops.py"
    return f"{context}; {', '.join(cards) or machine['gpu']}; {versions}; {machine['date']}.{sizes}"


def _parts(pieces: Mapping[str, Any], name: str) -> list[tuple[str, dict[str, Any]]]:
    return list(pieces[name]["parts"].items()) if name in pieces else []


def _measured(pieces: Mapping[str, Any], name: str) -> list[tuple[str, dict[str, Any]]]:
    return [(label, part) for label, part in _parts(pieces, name) if "error" not in part]


def _table(head: list[str], rows: list[list[str]]) -> str:
    return markdown([head, *rows]) if rows else ""
