"""Tokens that are not too unlikely beside the likeliest one."""

import jax.numpy as jnp
import numpy as np

from gpt_jax.limits import Share
from gpt_jax.registry import register
from gpt_jax.sample.processors import Processor, Vocabulary


@register("sample.processors", "min_p", examples=("min_p(p=0.1)",))
def min_p(given: Vocabulary, *, p: Share) -> Processor:
    """Keeps tokens of at least p times the likeliest one's probability (Nguyen et al. 2024)."""
    return Processor(change, {"p_B": np.float32(p)}, warps=True)


def change(logits_BV, step, p_B):
    shares_BV = jnp.exp(logits_BV - logits_BV.max(-1, keepdims=True))
    return jnp.where(shares_BV < p_B[:, None], -jnp.inf, logits_BV)
