"""How fast a training step can be on a GPU, from its compiled program alone: no GPU is needed.

    python -m benchmarks.gpu.predict                        # GPT-2's sizes on an H200 and an H100; minutes
    python -m benchmarks.gpu.predict --only=124m --chips=h100 --hlo=FOLDER
    python -m benchmarks.gpu.predict --check                # a small GPT-2: exit code 1 if the step is not as it should be
    python -m benchmarks.gpu.predict --table                # puts results/gpu_predicted.json into docs/performance.md

It needs requirements/gpu.txt; `make predict` installs that. Each kernel is given the longer of two times: its FLOPs at the
rate that was measured for such products, its bytes at the rate of a copy; and what lies between two kernels.
"""

import argparse
import collections
import json
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ["JAX_PLATFORMS"] = "cpu"  # what the host computes with; nothing is run

import jax

from benchmarks import report
from benchmarks.gpu import hlo, offline, promises, steps
from benchmarks.gpu.pieces import Task
from benchmarks.table import insert, markdown
from gpt_jax.model import flops

OUT, PAGE = report.RESULTS / "gpu_predicted.json", Path(__file__).parents[2] / "docs" / "performance.md"
SIZES = {"124m": (16, 64), "355m": (32,), "774m": (16,), "1558m": (8,)}
BETWEEN = 1.4e-6  # seconds from a kernel's end to the next one's start, in a CUDA graph: step less kernels, on an H200
SMALL = dict(layers=2)


@dataclass(frozen=True)
class Chip:
    """Rates measured by the suite: of products and of attention (its causal half counted), FLOP/s; of a copy, bytes/s."""

    products: float
    attention: float
    copies: float
    peak: float = 989e12


CHIPS = {"h200": Chip(700e12, 240e12, 4.05e12), "h100": Chip(650e12, 240e12, 3.0e12)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(SIZES), help="sizes of GPT-2")
    parser.add_argument("--chips", default=",".join(CHIPS), help="of gpt_jax/mesh/planning/targets")
    parser.add_argument("--hlo", type=Path, help="a folder for the programs' HLO")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--check", action="store_true", help="compile two layers, and say what is wrong with them")
    parser.add_argument("--table", action="store_true", help="only write the table of docs/performance.md")
    options = parser.parse_args()
    if options.table:
        text = render(json.loads(OUT.read_text(encoding="utf-8"))) if OUT.exists() else ""
        PAGE.write_text(insert(PAGE.read_text(encoding="utf-8"), "gpu_predicted", text), encoding="utf-8")
        return 0
    try:
        return check() if options.check else predictions(options)
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 2


def check() -> int:
    """Whether the step of a small GPT-2 is as ``promises`` wants it."""
    config = steps.config_of(Task(False, Path()), "124m", 8, **SMALL, scan=2)
    faults = promises.broken(offline.compiled_step(config, "h100").as_text(), config)
    print("\n".join(faults) or "the step is as it should be")
    return int(bool(faults))


def predictions(options: argparse.Namespace) -> int:
    results: dict[str, Any] = {"machine": report.machine(), "jaxlib": jax.lib.__version__, "steps": []}
    for size in options.only.split(","):
        for batch in SIZES[size]:
            for chip in options.chips.split(","):
                found = predicted(size, batch, chip, options.hlo)
                results["steps"].append(found)
                print(f"{size}, batch {batch}, {chip}: {found['ms']:.1f} ms, MFU {found['mfu']:.1%}", flush=True)
                options.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(render(results))
    return 0


def predicted(size: str, batch: int, chip: str, folder: Path | None) -> dict[str, Any]:
    """The time of a step, by category of kernel, and the counts that it comes from."""
    config = steps.config_of(Task(False, Path()), size, batch)
    start = time.perf_counter()
    compiled = offline.compiled_step(config, chip)
    text = compiled.as_text()
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{size}-{batch}-{chip}.hlo").write_text(text, encoding="utf-8")
    found = counts(text, config, CHIPS[chip])
    m, seconds = config.model, found["ms"] / 1e3
    work = batch * m.context * flops.flops_per_token(m, m.context, "nanogpt")
    memory = compiled.memory_analysis()
    held = memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
    return {
        "size": size,
        "batch": batch,
        "chip": chip,
        **found,
        "mfu": work / seconds / CHIPS[chip].peak,
        "memory_gib": (held + memory.temp_size_in_bytes) / steps.GIB,
        "compile_s": time.perf_counter() - start,
    }


def counts(text: str, config: Any, chip: Chip) -> dict[str, Any]:
    """Kernels, bytes, FLOPs and milliseconds, in all and by category."""
    parts: dict[str, list[float]] = collections.defaultdict(lambda: [0, 0.0, 0.0, 0.0])
    for k in hlo.kernels(text):
        kind = hlo.category(k, config.model.vocab, config.model.width)
        rate = chip.attention if kind == "attention" else chip.products
        seconds = max(k.flops / rate, (k.read + k.written) / chip.copies) + BETWEEN
        for i, value in enumerate((1, k.read + k.written, k.flops, 1e3 * seconds)):
            parts[kind][i] += k.count * value
    kernels, moved, work, ms = (sum(part[i] for part in parts.values()) for i in range(4))
    return {
        "kernels": kernels,
        "gigabytes": moved / 1e9,
        "tflop": work / 1e12,
        "ms": ms,
        "categories": {
            name: dict(zip(("kernels", "bytes", "flops", "ms"), part, strict=True)) for name, part in parts.items()
        },
        "broken": promises.broken(text, config),
    }


def render(results: dict[str, Any]) -> str:
    """The steps, and where the time of the first goes, as markdown."""
    rows = [["predicted step", "on", "ms", "MFU", "kernels", "GB moved", "TFLOP", "memory, GiB"]]
    for s in results["steps"]:
        figures = [
            f"{s['ms']:.1f}",
            f"{s['mfu']:.1%}",
            f"{s['kernels']:.0f}",
            f"{s['gigabytes']:.1f}",
            f"{s['tflop']:.2f}",
        ]
        rows.append([f"{s['size'].upper()}, batch {s['batch']}", s["chip"].upper(), *figures, f"{s['memory_gib']:.1f}"])
    first = results["steps"][0]
    parts = [
        [f"{first['size'].upper()}, batch {first['batch']}, {first['chip'].upper()}", "ms", "kernels", "GB", "TFLOP"]
    ]
    for name, part in sorted(first["categories"].items(), key=lambda item: -item[1]["ms"]):
        parts.append(
            [
                name,
                f"{part['ms']:.2f}",
                f"{part['kernels']:.0f}",
                f"{part['bytes'] / 1e9:.1f}",
                f"{part['flops'] / 1e12:.2f}",
            ]
        )
    said = f"Compiled, not run: jaxlib {results['jaxlib']}, {results['machine']['date']}."
    return f"{markdown(rows)}\n\n{markdown(parts)}\n\n{said}"


if __name__ == "__main__":
    sys.exit(main())
