"""Tokens whose scores stand out of the rest."""

import jax.numpy as jnp
import numpy as np

from gpt_jax.limits import Positive
from gpt_jax.registry import register
from gpt_jax.sample.processors import Processor, Vocabulary


@register("sample.processors", "top_n_sigma", examples=("top_n_sigma(n=1.0)",))
def top_n_sigma(given: Vocabulary, *, n: Positive) -> Processor:
    """Keeps scores down to n standard deviations of the scores below the largest, whatever the temperature
    (Tang et al. 2024). Tokens that have been removed do not count."""
    return Processor(change, {"n_B": np.float32(n)}, warps=True)


def change(logits_BV, step, n_B):
    there_BV = jnp.isfinite(logits_BV)
    count_B1 = jnp.maximum(there_BV.sum(-1, keepdims=True), 1)
    below_BV = jnp.where(there_BV, logits_BV.max(-1, keepdims=True) - logits_BV, 0)
    away_BV = jnp.where(there_BV, below_BV - below_BV.sum(-1, keepdims=True) / count_B1, 0)
    sigma_B1 = jnp.sqrt(jnp.square(away_BV).sum(-1, keepdims=True) / count_B1)
    return jnp.where(below_BV > n_B[:, None] * sigma_B1, -jnp.inf, logits_BV)
