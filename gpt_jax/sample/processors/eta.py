"""Tokens above a probability that falls with the entropy."""

import jax
import jax.numpy as jnp
import numpy as np

from gpt_jax.limits import Between
from gpt_jax.registry import register
from gpt_jax.sample.cutoffs import entropy
from gpt_jax.sample.processors import Processor, Vocabulary


@register("sample.processors", "eta", examples=("eta(cutoff=0.05)",))
def eta(given: Vocabulary, *, cutoff: Between) -> Processor:
    """Keeps tokens of at least the probability min(cutoff, sqrt(cutoff) exp(-H)), H being the entropy, and the likeliest
    (Hewitt et al. 2022)."""
    return Processor(change, {"cutoff_B": np.float32(cutoff)}, warps=True)


def change(logits_BV, step, cutoff_B):
    log_BV = jax.nn.log_softmax(logits_BV)
    least_B = jnp.minimum(cutoff_B, jnp.sqrt(cutoff_B) * jnp.exp(-entropy(log_BV)))
    kept_BV = (jnp.exp(log_BV) >= least_B[:, None]) | (logits_BV == logits_BV.max(-1, keepdims=True))
    return jnp.where(kept_BV, logits_BV, -jnp.inf)
