"""Metrics of an objective over a fixed set of batches.

Convention of language models: disjoint windows of ``model.context`` tokens in the order of the text, every target counted
once; the first token of a window is predicted from nothing before it (nanoGPT's and most papers' way). With ``eval.stride``
windows overlap, and a target counts in the one with the most before it (``gpt_jax.data.overlapping``). Perplexity is
exp(loss in nats per token). Bits per byte divide the same sum by the UTF-8 bytes that the targets stand for, so that
tokenizers compare; they are left out where these bytes are not exactly the text's (``TokenCorpus.uneven``).
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from gpt_jax.data.batches import InOrder
from gpt_jax.mesh import mesh as meshes
from gpt_jax.train.run import Run


def evaluate(run: Run, trained: dict, batches: Any, stop: Callable[[], bool]) -> dict[str, float] | None:
    """What ``Objective.metrics`` makes of the sums over ``batches``.

    Args:
      trained: the parameters that are trained (``read_params``).
      batches: what ``Split.fixed`` gives.
      stop: called between batches; once it returns true, the evaluation stops and None is returned.
    """
    lengths = run.byte_lengths_V
    lengths_V = np.zeros(1, np.float32) if lengths is None else np.asarray(lengths, np.float32)
    sums = []
    for k in range(len(batches)):
        if stop():
            return None
        batch = meshes.put_batch(batches.rows(k, *meshes.my_rows(run.mesh, batches.batch)), run.mesh)
        sums.append(run.program.evaluate(trained, batch, lengths_V, run.fixed))
    found = jax.device_get(sums)
    return run.program.recipe.objective.metrics({name: _total([s[name] for s in found]) for name in found[0]})


def _total(parts: list[np.ndarray]) -> Any:
    """The sum of scalars, rounded once; of arrays in float64."""
    return math.fsum(map(float, parts)) if np.ndim(parts[0]) == 0 else np.sum(parts, axis=0, dtype=np.float64)


def coverage(batches: InOrder, knob: str) -> str:
    """How much of its split an evaluation covers, in words; ``knob`` is the setting that decides it."""
    if len(batches) == batches.available:
        return f"over all {batches.available} batches of {batches.batch}"
    return f"over {len(batches)} of {batches.available} batches of {batches.batch} ({knob}; 0 = all)"


def scores(run: Run, trained: dict, batches: Any) -> dict[str, float]:
    """``evaluate`` of what a run has trained, over batches, without a stop."""
    with jax.set_mesh(run.mesh):
        values = evaluate(run, trained, batches, lambda: False)
    assert values is not None
    return values
