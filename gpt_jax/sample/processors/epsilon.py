"""Tokens above a probability."""

import jax
import jax.numpy as jnp
import numpy as np

from gpt_jax.limits import Between
from gpt_jax.registry import register
from gpt_jax.sample.processors import Processor, Vocabulary


@register("sample.processors", "epsilon", examples=("epsilon(cutoff=0.02)",))
def epsilon(given: Vocabulary, *, cutoff: Between) -> Processor:
    """Keeps tokens of at least the probability ``cutoff``, and the likeliest (Hewitt et al. 2022)."""
    return Processor(change, {"cutoff_B": np.float32(cutoff)}, warps=True)


def change(logits_BV, step, cutoff_B):
    kept_BV = (jax.nn.softmax(logits_BV) >= cutoff_B[:, None]) | (logits_BV == logits_BV.max(-1, keepdims=True))
    return jnp.where(kept_BV, logits_BV, -jnp.inf)
