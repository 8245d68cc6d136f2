"""The temperature of the softmax."""

import jax.numpy as jnp

from gpt_jax.limits import Positive
from gpt_jax.registry import register
from gpt_jax.sample.processors import Processor, Vocabulary, normal


@register("sample.processors", "temperature", examples=("temperature(t=0.7)",))
def temperature(given: Vocabulary, *, t: Positive) -> Processor:
    """Scores over t: below 1 likely tokens become likelier, above 1 less so (Ackley et al. 1985)."""
    return Processor(change, {"t_B": normal(t)}, warps=True)


def change(logits_BV, step, t_B):
    """Where a quotient would overflow, the row's largest score is taken off first, which changes no probability."""
    t_B1 = t_B[:, None]
    plain_BV = logits_BV / t_B1
    finite_B1 = jnp.isfinite(jnp.where(jnp.isneginf(logits_BV), 0, plain_BV)).all(-1, keepdims=True)
    shifted_BV = (logits_BV - logits_BV.max(-1, keepdims=True)) / t_B1
    return jnp.where(finite_B1, plain_BV, shifted_BV)
