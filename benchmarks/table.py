"""The results as markdown, written between their markers: ``python -m benchmarks.table [README.md]``.

A document marks the place of results/<name>.json with the two lines
``<!-- bench:<name> -->`` and ``<!-- /bench:<name> -->``; what stands between them is replaced.
"""

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import report
from benchmarks.contest import OURS
from benchmarks.worker import ROOT

Rows = list[list[str]]


def train_step(results: dict[str, Any]) -> str:
    shapes = results["shapes"]
    names = list(dict.fromkeys(name for values in shapes.values() for name in values["step_seconds"]))
    rows = [["one training step", *shapes]]
    for name in names:
        steps = [values["step_seconds"].get(name) for values in shapes.values()]
        rows.append([name, *(f"{_milliseconds(step['median'])} ms" if step else "–" for step in steps)])
    speed_ups = [_best(values["speed_up"]) for values in shapes.values()]
    if any(speed_ups):
        rows.append(["**times as fast as the best peer**", *speed_ups])
        rows.append(["at most, if a step were its products alone", *(_bound(values) for values in shapes.values())])
    rows.append(["share of JAX's own GEMM rate", *(f"{values['share_of_gemm']:.0%}" for values in shapes.values())])
    rows.append(["making a batch, share of the step", *(f"{values['data_share']:.2%}" for values in shapes.values())])
    text = markdown(rows)
    if "start_up" in results:
        start = results["start_up"]
        text += f"\n\nFrom the quickstart command to its first step: {start['cold']:.1f} s with nothing compiled, "
        text += f"{start['warm']:.1f} s with the compilation cache filled."
    return f"{text}\n\n{conditions(results)}"


def decode(results: dict[str, Any]) -> str:
    batches = results["batches"]
    names = list(dict.fromkeys(name for values in batches.values() for name in values["seconds"]))
    beams = results["beams"]
    kind = "greedy decoding" if beams == 1 else f"beam search with {beams} beams"
    rows = [[f"{kind}, new tokens/s", *(f"batch {batch}" for batch in batches)]]
    for name in names:
        speeds = []
        for batch, values in batches.items():
            seconds = values["seconds"].get(name)
            speeds.append(f"{int(batch) * results['new'] / seconds['median']:.0f}" if seconds else "–")
        rows.append([name, *speeds])
    speed_ups = [_best(values["speed_up"]) for values in batches.values()]
    if any(speed_ups):
        rows.append(["**times as fast as the best peer**", *speed_ups])
    once = [int(batch) / values["weights_seconds"]["median"] for batch, values in batches.items()]
    rows.append(["at most, if a token were the products with the weights alone", *(f"{speed:.0f}" for speed in once)])
    shape = f"{results['shape']}, prompts of {results['prompt']} tokens, {results['new']} new ones."
    return f"{markdown(rows)}\n\n{shape} {conditions(results)}"


def attention(results: dict[str, Any]) -> str:
    lengths = results["lengths"]
    names = list(dict.fromkeys(name for values in lengths.values() for name in values))
    rows = [["forward and backward, ms (temporaries, MiB)", *(f"T {t}" for t in lengths)]]
    for name in names:
        cells = []
        for values in lengths.values():
            found = values[name]
            cell = "refused"
            if "seconds" in found:
                cell = f"{_milliseconds(found['seconds']['median'])} ({found['temporaries'] / 2**20:.0f})"
            cells.append(cell)
        rows.append([f"`{name}`", *cells])
    batch, heads, head_dim = results["shape"]
    return f"{markdown(rows)}\n\nBatch {batch}, {heads} heads of {head_dim}, causal. {conditions(results)}"


def variants(results: dict[str, Any]) -> str:
    rows = [["part", "in place of GPT-2's", "ms", "times as long"]]
    for kind, found in results["kinds"].items():
        for call, values in found.items():
            time, relative = _milliseconds(values["seconds"]["median"]), values["relative"]["median"]
            rows.append([kind, f"`{call}`", time, f"{relative:.2f}"])
    sizes = ", ".join(f"{name} {size}" for name, size in results["sizes"].items())
    return f"{markdown(rows)}\n\nGradient of a batch of {results['batch']}; {sizes}. {conditions(results)}"


def population(results: dict[str, Any]) -> str:
    models = results["models"]
    sizes = list(next(iter(models.values())))
    rows = [["ms a step and run", *(f"{size} at once" if size != "1" else "one by one" for size in sizes)]]
    for name, found in models.items():
        rows.append([name, *(_milliseconds(found[size]["median"]) for size in sizes)])
    return f"{markdown(rows)}\n\n{conditions(results)}"


def flags(results: dict[str, Any]) -> str:
    shapes = results["shapes"]
    rows = [["a training step: time of the default's (CPU time)", *shapes, "losses differ by"]]
    for name in next(iter(shapes.values())):
        found = [of[name] for of in shapes.values()]
        cells = ["refused" if "refused" in one else _relative(one) for one in found]
        rows.append([name, *cells, f"{max(one.get('losses', 0.0) for one in found):.1g}"])
    return f"{markdown(rows)}\n\nThe default of that run: `{results['default']}`. {conditions(results)}"


def serve(results: dict[str, Any]) -> str:
    clients = results["clients"]
    rows = [["clients at once", *clients]]
    for name, what in (("first_token_seconds", "first token"), ("answer_seconds", "answer")):
        for share in clients[next(iter(clients))][name]:
            cells = [f"{_milliseconds(found[name][share])} ms" for found in clients.values()]
            rows.append([f"{what}, {share} % within", *cells])
    rows.append(["tokens/s of all", *(f"{found['tokens_per_second']:.0f}" for found in clients.values())])
    sizes = f"Answers of up to {results['new']} tokens, {results['rows']} rows, clients on the same machine."
    return f"{markdown(rows)}\n\n{sizes} {conditions(results, 'Percentiles')}"


ON_CPU: dict[str, Callable[[dict[str, Any]], str]] = {
    "train_step": train_step,
    "decode": decode,
    "beam": decode,
    "attention": attention,
    "variants": variants,
    "population": population,
    "flags": flags,
    "serve": serve,
}
TABLES = {**ON_CPU, **{f"{name}_gpu": table for name, table in ON_CPU.items()}}


def insert(document: str, name: str, text: str) -> str:
    """The document with ``text`` between the markers of ``name``; unchanged where it has none."""
    pattern = re.compile(rf"(<!-- bench:{name} -->\n).*?(<!-- /bench:{name} -->)", re.DOTALL)
    lines = f"{text}\n" if text else ""
    return pattern.sub(lambda found: f"{found[1]}{lines}{found[2]}", document)


def main() -> None:
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "README.md"
    document = path.read_text(encoding="utf-8")
    for name, table in TABLES.items():
        if f"<!-- bench:{name} -->" not in document:
            continue
        if not (report.RESULTS / f"{name}.json").exists():
            print(f"no results of {name} yet: python -m benchmarks.{name}")
        else:
            document = insert(document, name, table(report.read(name)))
    path.write_text(document, encoding="utf-8")


def markdown(rows: Rows) -> str:
    rows = [rows[0], ["---", *["---:"] * (len(rows[0]) - 1)], *rows[1:]]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:.0f}" if seconds >= 0.1 else f"{1e3 * seconds:.3g}"


def _relative(found: dict[str, Any]) -> str:
    time, cpu = (found[name]["relative"]["median"] for name in ("seconds", "cpu_seconds"))
    return f"{time:.2f} ({cpu:.2f})"


def _best(speed_ups: dict[str, Any]) -> str:
    """Against the fastest peer: the smallest of the ratios."""
    return f"**{min(values['median'] for values in speed_ups.values()):.2f}x**" if speed_ups else ""


def _bound(values: dict[str, Any]) -> str:
    """How many times faster than the best peer a step would be that took as long as its products at JAX's own rate."""
    products = values["step_flops"] / values["gemm_flops"][OURS]["median"]
    peers = [step["median"] for name, step in values["step_seconds"].items() if name != OURS]
    return f"{min(peers) / products:.2f}x" if peers else ""


def conditions(results: dict[str, Any], figures: str = "Medians of rounds in turn") -> str:
    machine, dtype = results["machine"], results.get("dtype", "float32")
    names = ("jax", "flax", "torch", "transformers")
    versions = ", ".join(f"{name} {machine['packages'][name]}" for name in names if name in machine["packages"])
    place = machine.get("gpu") or f"{machine['cores']} cores of {machine['cpu']}"
    return f"{figures}, {dtype}, {place}; {versions}; {machine['date']}."


if __name__ == "__main__":
    main()
