"""The likeliest tokens left out now and then."""

import jax
import jax.numpy as jnp
import numpy as np

from gpt_jax.limits import Share
from gpt_jax.registry import register
from gpt_jax.sample.processors import Processor, Vocabulary

STREAM = int.from_bytes(b"xtc")  # of random numbers: its own


@register("sample.processors", "xtc", examples=("xtc(probability=0.5, threshold=0.1)",))
def xtc(given: Vocabulary, *, probability: Share, threshold: Share) -> Processor:
    """Excludes top choices: with a probability at each token, of the tokens that reach ``threshold`` only the least likely
    stays (Weidmann 2024, as in llama.cpp). Among equals the last one counts as the least likely."""
    knobs = {"probability_B": np.float32(probability), "threshold_B": np.float32(threshold)}
    return Processor(change, knobs, warps=True)


def change(logits_BV, step, probability_B, threshold_B):
    p_BV = jax.nn.softmax(logits_BV)
    reach_BV = (p_BV >= threshold_B[:, None]) & (logits_BV > -jnp.inf)
    backwards_BV = jnp.where(reach_BV, logits_BV, jnp.inf)[:, ::-1]
    least_B = logits_BV.shape[1] - 1 - jnp.argmin(backwards_BV, axis=-1)
    gone_BV = reach_BV & (jnp.arange(logits_BV.shape[1]) != least_B[:, None])
    uniform_B = jax.vmap(lambda key: jax.random.uniform(jax.random.fold_in(key, STREAM)))(step.keys_B)
    return jnp.where(gone_BV & (uniform_B < probability_B)[:, None], -jnp.inf, logits_BV)
