"""A watermark: a hash of what stands before makes some tokens likelier."""

from typing import Annotated

import jax.numpy as jnp
import numpy as np

from gpt_jax.limits import Between, Limits, Seed, Signed, folded
from gpt_jax.registry import register
from gpt_jax.sample.constraints import words
from gpt_jax.sample.processors import NONE, Processor, Vocabulary
from gpt_jax.sample.watermark import begin, mixed, threshold


@register("sample.processors", "watermark", examples=("watermark(fraction=0.5, bias=3.0, context=2)",))
def watermark(
    given: Vocabulary,
    *,
    fraction: Between = 0.25,
    bias: Signed = 2.0,
    seed: Seed = 0,
    context: Annotated[int, Limits(1, 64)] = 1,
) -> Processor:
    """Adds ``bias`` to the scores of the green tokens (Kirchenbauer et al. 2023, algorithm 2): ``gpt_jax.sample.watermark``.

    A row begins with it once its text, with the prompt, has ``context`` tokens.
    """
    knobs = {"cut_B": threshold(fraction), "bias_B": np.float32(bias), "seed_B": np.uint32(folded(seed))}
    return Processor(change, knobs | {"context_BC": np.ones(context, np.int32)})


def change(logits_BV, step, cut_B, bias_B, seed_B, context_BC):
    size_B = (context_BC != NONE).sum(-1)
    recent_BC = words.recent(step, context_BC.shape[1])
    hash_B = begin(seed_B)
    for back in reversed(range(context_BC.shape[1])):  # the oldest first
        after_B = mixed(hash_B, recent_BC[:, back].astype(jnp.uint32))
        hash_B = jnp.where(back < size_B, after_B, hash_B)
    tokens_V = jnp.arange(logits_BV.shape[1], dtype=jnp.uint32)
    green_BV = mixed(hash_B[:, None], tokens_V) < cut_B[:, None]
    bias_B1 = jnp.where(step.length_B >= size_B, bias_B, 0)[:, None]
    return jnp.where(green_BV, logits_BV + bias_B1, logits_BV)
