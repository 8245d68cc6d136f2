"""Loss over a fixed set of batches.

Convention: disjoint windows of ``model.context`` tokens in the order of the text, every target counted once; the first
token of a window is predicted from nothing before it (nanoGPT's and most papers' way). Perplexity is exp(loss in nats
per token). Bits per byte divide the same sum by the UTF-8 bytes that the targets stand for, so that tokenizers compare;
they are left out where these bytes are not exactly the text's (``TokenCorpus.uneven``).
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from gpt_jax.config import Config
from gpt_jax.data.batches import InOrder
from gpt_jax.mesh import mesh as meshes
from gpt_jax.train.checkpoint import resume
from gpt_jax.train.run import Run, open_run, to_read
from gpt_jax.train.step import read_params


def evaluate(
    step: Callable, params: dict, batches, mesh: Mesh, byte_lengths_V: np.ndarray | None, stop: Callable[[], bool]
) -> dict[str, float] | None:
    """{"loss", "perplexity", "bits_per_byte" (where tokens are text), "tokens"} over ``batches``.

    Args:
      step: ``Program.evaluate``.
      batches: what ``Split.fixed`` gives.
      byte_lengths_V: bytes per token id; None = no bits per byte.
      stop: called between batches; once it returns true, the evaluation stops and None is returned.
    """
    lengths_V = np.zeros(1, np.float32) if byte_lengths_V is None else np.asarray(byte_lengths_V, np.float32)
    sums = []
    for k in range(len(batches)):
        if stop():
            return None
        batch = meshes.put_batch(batches.rows(k, *meshes.my_rows(mesh, batches.batch)), mesh)
        sums.append(step(params, batch, lengths_V))
    totals = {name: math.fsum(float(s[name]) for s in jax.device_get(sums)) for name in ("loss", "tokens", "bytes")}
    loss = totals["loss"] / max(totals["tokens"], 1)
    values = {"loss": loss, "perplexity": math.exp(min(loss, 700)), "tokens": int(totals["tokens"])}
    if byte_lengths_V is not None and totals["bytes"]:
        values["bits_per_byte"] = totals["loss"] / math.log(2) / totals["bytes"]
    return values


def coverage(batches: InOrder, knob: str) -> str:
    """How much of its split an evaluation covers, in words; ``knob`` is the setting that decides it."""
    if len(batches) == batches.available:
        return f"over all {batches.available} batches of {batches.batch}"
    return f"over {len(batches)} of {batches.available} batches of {batches.batch} ({knob}; 0 = all)"


def scores(run: Run, params: dict, batches: Any) -> dict[str, float]:
    """``evaluate`` of a run's parameters over batches, without a stop."""
    with jax.set_mesh(run.mesh):
        values = evaluate(run.program.evaluate, params, batches, run.mesh, run.byte_lengths_V, lambda: False)
    assert values is not None
    return values


def evaluate_run(config: Config, workdir: str | Path, step: int | None) -> None:
    """Prints the loss of a checkpoint over ``eval.batches`` of ``eval.split``.

    Raises:
      UserError: there is no such run or checkpoint.
    """
    run = open_run(to_read(config), workdir)
    step, state, notes = run.load(step)
    resume.check_fingerprint(notes["data"], run.data.fingerprint)
    meshes.check_batch(run.mesh, config.eval.batch or config.train.batch, 1)
    split = getattr(run.data, config.eval.split)
    batches = split.fixed(config.eval.batch or config.train.batch, config.eval.batches)
    values = scores(run, read_params(state), batches)
    print(
        f"step {step}, {config.eval.split} split, {values['tokens']:,} tokens in disjoint windows of"
        f" {config.model.context}, {coverage(batches, 'eval.batches')}"
    )
    units = {"loss": "nats/token", "perplexity": "per token", "bits_per_byte": ""}
    for name, unit in units.items():
        if name in values:
            print(f"{name.replace('_', ' '):<16} {values[name]:.6f} {unit}".rstrip())
