"""What is written and printed when a run ends: summary.json, the loss figure, sample texts, a few lines."""

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gpt_jax import notebook
from gpt_jax.model import flops
from gpt_jax.storage import make_folder, only_warned, write_atomically
from gpt_jax.train.record import figures, goodput
from gpt_jax.train.record.metrics import read, write_summary
from gpt_jax.train.record.metrics import summarise as summarise_records
from gpt_jax.train.record.progress import duration, quantity
from gpt_jax.train.record.recorder import Recorder
from gpt_jax.train.run import Run
from gpt_jax.train.step import State


def summarise(run: Run, step: int, recorder: Recorder, status: str) -> dict[str, Any]:
    """Writes summary.json and returns its contents. Process 0 of several writes; all may call it."""
    import jax

    tokens = step * run.tokens_per_step
    records, objective = read(run.workdir), run.program.recipe.objective
    best_by = f"valid/{objective.best.metric}"
    rates = [r["speed/tokens_per_second"] for r in records if "speed/tokens_per_second" in r]
    summary = {
        "status": status,
        "steps": step,
        "tokens": tokens,
        "params": flops.parameters(run.config.model).total,
        "flops": tokens * run.flops_per_token,
        **recorder.goodput.summary(),
        "training_seconds": round(recorder.training_seconds, 3),
        "tokens_per_second": sorted(rates)[len(rates) // 2] if rates else None,
        "facts": run.data.facts,
        **({"parent": recorder.parent} if recorder.parent else {}),
        "shown": objective.shown,
        "best_by": best_by,
        "highest_is_best": objective.best.highest,
        **summarise_records(records, best_by, objective.best.highest),
    }
    if jax.process_index() == 0:
        write_summary(run.workdir, summary)
    return summary


def write_seconds(run: Run, summary: Mapping[str, Any], recorder: Recorder) -> dict[str, Any]:
    """Writes summary.json again with the seconds that have passed since ``summarise``, and returns its contents."""
    values = {**summary, **recorder.goodput.summary()}
    write_summary(run.workdir, values)
    return values


def show(run: Run, state: State, summary: dict[str, Any], covered: str) -> None:
    """Draws the figure, continues ``sample.prompts``, and prints where everything is. A notebook shows ``RunSummary``.

    The run is done: what fails here is left out, with a warning.

    Args:
      covered: what of the validation side was read, in words.
    """
    text, pictures = "", []
    with only_warned("the loss figure cannot be drawn"):
        pictures.append(("loss figure", str(figures.loss_figure(run.workdir))))
    with only_warned("the samples cannot be made"):
        text = _samples(run, state)
    if notebook.running():
        return
    rows = [
        *_rows(summary, covered),
        *pictures,
        *_left_out(run),
        ("run directory", str(run.workdir)),
        ("report", shlex.join([sys.executable, "-m", "gpt_jax", "report", f"--workdir={run.workdir}"])),
    ]
    print("\n".join(["", *([text, ""] if text else []), *(f"{name:<16} {value}" for name, value in rows)]), flush=True)


class RunSummary(dict[str, Any]):
    """What summary.json says; in notebooks its numbers, the loss figure and the samples."""

    def __init__(self, values: Mapping[str, Any], workdir: Path):
        super().__init__(values)
        self.workdir = workdir

    def _repr_html_(self) -> str:
        shown = notebook.table([["run", str(self.workdir)], *_rows(self)])
        shown += notebook.image(self.workdir / figures.PATH)
        samples = self.workdir / "samples" / f"{self['steps']}.txt"
        return shown + (notebook.text(samples.read_text("utf-8")) if samples.exists() else "")


def _rows(summary: Mapping[str, Any], covered: str = "") -> list[tuple[str, str]]:
    """What a run came to, to be read."""
    final = summary["final"]
    shown = {name: unit for name, unit in summary["shown"].items() if f"valid/{name}" in final}
    first, *rest = shown
    rows = [(f"validation {first}", f"{final[f'valid/{first}']:.4f} {shown[first]} {covered}".rstrip())]
    rows += [(name.replace("_", " "), f"{final[f'valid/{name}']:.4f}") for name in rest]
    if summary["tokens_per_second"]:
        rows.append(("speed", f"{quantity(summary['tokens_per_second'])} tokens/s"))
    took = f"{summary['steps']} steps, {quantity(summary['tokens'])} tokens, {quantity(summary['flops'])} FLOPs"
    rows.append(("trained", f"{took} in {duration(summary['seconds'])}"))
    return [*rows, *([("goodput", goodput.words(summary))] if summary["goodput"] < goodput.GOOD else [])]


def _left_out(run: Run) -> list[tuple[str, str]]:
    """Why there are no samples, where prompts to continue are named and the objective trains no writer."""
    if run.program.recipe.objective.writes or not run.config.sample.prompts:
        return []
    return [("samples", f"none: {run.config.tune.objective} trains a head that reads texts")]


def _samples(run: Run, state: State) -> str:
    """The continuations of ``sample.prompts``, which also go to samples/<step>.txt; empty where tokens are not text, or what
    was trained writes none."""
    if run.data.tokenizer is None or not run.config.sample.prompts or not run.program.recipe.objective.writes:
        return ""
    from gpt_jax.sample.prompts import writer_of
    from gpt_jax.sample.text import continuations

    params = run.params(state)
    writer = writer_of(run.config, run.data.tokenizer)
    texts = continuations(run.config.model, params, run.data.tokenizer, run.config.sample, writer)
    shown = "\n".join(f"--- sample {i}\n{text}" for i, text in enumerate(texts, start=1))
    path = run.workdir / "samples" / f"{int(state['step'])}.txt"
    write_atomically(make_folder(path.parent) / path.name, shown + "\n")
    return shown
