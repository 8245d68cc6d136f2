"""Loss over a fixed set of batches.

Convention: disjoint windows of ``model.context`` tokens in the order of the text, every target counted once; the first
token of a window is predicted from nothing before it (nanoGPT's and most papers' way). Perplexity is exp(loss in nats
per token). Bits per byte divide the same sum by the UTF-8 bytes that the targets stand for, so that tokenizers compare.
"""

import math
from collections.abc import Callable

import jax
import numpy as np
from jax.sharding import Mesh

from gpt_jax.mesh import mesh as meshes


def evaluate(
    step: Callable, params: dict, batches, mesh: Mesh, byte_lengths_V: np.ndarray | None, stop: Callable[[], bool]
) -> dict[str, float] | None:
    """{"loss", "perplexity", "bits_per_byte" (where tokens stand for text), "tokens"} over ``batches``.

    Args:
      step: ``Program.evaluate``.
      batches: what ``Split.fixed`` gives.
      byte_lengths_V: bytes per token id, or None.
      stop: asked between batches; once it says yes, the evaluation is given up and None returned.
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
