"""``launch.py export``: a checkpoint of a run becomes a directory that ``transformers`` can open."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gpt_jax import bars
from gpt_jax.config import Config
from gpt_jax.convert import adapters
from gpt_jax.convert.importing import make_directory, refuse_used
from gpt_jax.data.rendering import template_of
from gpt_jax.interop import families, plan, tensors, tokenizer, weights
from gpt_jax.interop.reading import shapes
from gpt_jax.interop.rows import sizes_of
from gpt_jax.interop.settings import OF_THE_MODEL
from gpt_jax.run_directory import CONFIG
from gpt_jax.train.starting import parameters


@dataclass(frozen=True)
class Form:
    """How an export is written.

    Args:
      family: a ``model_type``; empty = the one it was imported as, or the first that can express the model.
      dtype: of the tensors.
      shard: bytes that a file may have at most; a tensor that is larger has one of its own.
      adapter: of a run with one: "merged" into the model, "apart", in PEFT's form without the model, or "base", the model
        without it.
    """

    family: str = ""
    dtype: str = "float32"
    shard: int = 5_000_000_000
    adapter: str = "merged"


def export_run(config: Config, workdir: Path, target: Path, step: int | None, form: Form) -> int:
    """Writes the directory, completely or not at all; returns the checkpoint's step. Where the run keeps a moving average
    of its parameters, that is what is written, as it is what evaluation uses.

    Raises:
      UserError: no family can express the model (the knob is named), there is no such checkpoint, ``target`` is used, or the
        adapter cannot be written as asked.
      StorageError: the disk refuses.
    """
    refuse_used(target, "another --to")
    carried = tokenizer.carried_config(workdir)
    family = (
        families.named(form.family, "--family")
        if form.family
        else families.that_says(config.model, carried.get("model_type", ""))
    )
    if form.adapter != "merged":
        adapters.check(config, f"--adapter={form.adapter}")
    if form.adapter == "apart":
        return adapters.export(config, workdir, target, step, family, form.dtype)
    values, said = family.settings(config.model)
    wanted = {t.name: t for t in plan.tensors(family.rows, said, shapes(said) | shapes(config.model))}
    dtype = tensors.dtype_of(form.dtype)
    sizes = [(t.name, int(np.prod(t.row.shape(sizes_of(said)))) * dtype.itemsize) for t in wanted.values()]
    if form.adapter == "base":
        step, arrays = 0, parameters.by_path(parameters.read_base(config, workdir))
    else:
        step, arrays = parameters.of_run(config, workdir, step)
    template = template_of(config)
    ids = tokenizer.token_ids(workdir, template)

    same = carried.get("model_type") == family.name
    kept = {key: value for key, value in carried.items() if key in OF_THE_MODEL and same}

    def make(name: str) -> np.ndarray:
        return weights.make(wanted[name], said, arrays, dtype)

    def fill(folder: Path) -> None:
        named = {
            **kept,
            **values,
            **ids,
            "dtype": form.dtype,
            "torch_dtype": form.dtype,
        }
        (folder / CONFIG).write_text(json.dumps(named, indent=2) + "\n", "utf-8")
        progress = bars.bar(total=len(wanted), desc="writing", unit="tensor")
        for _ in tensors.write(folder, sizes, make, form.shard):
            progress.update()
        progress.close()
        if not tokenizer.restore(workdir, folder, template):
            print("the run has no tokenizer that transformers could use; none was written")
        if not (folder / tokenizer.GENERATION).exists():
            (folder / tokenizer.GENERATION).write_text(json.dumps(ids, indent=2) + "\n", "utf-8")

    make_directory(target, fill)
    return step
