"""The k most likely tokens."""

import jax.numpy as jnp
import numpy as np

from gpt_jax.limits import Count
from gpt_jax.registry import register
from gpt_jax.sample.cutoffs import largest, ordered_bits
from gpt_jax.sample.processors import Processor, Vocabulary


@register("sample.processors", "top_k", examples=("top_k(k=5)",))
def top_k(given: Vocabulary, *, k: Count) -> Processor:
    """Keeps the k largest scores, and all that equal the last of them (Fan et al. 2018)."""
    return Processor(change, {"k_B": np.int32(k)}, warps=True)


def change(logits_BV, step, k_B):
    bits_BV = ordered_bits(logits_BV)

    def enough(threshold_BJ):
        return jnp.sum(bits_BV[:, None] >= threshold_BJ[:, :, None], axis=-1) >= k_B[:, None]

    kth_B = largest(enough, len(logits_BV), step.bits)
    kept_BV = (k_B >= logits_BV.shape[-1])[:, None] | (bits_BV >= kth_B[:, None])
    return jnp.where(kept_BV, logits_BV, -jnp.inf)
