"""The nucleus: the most likely tokens, up to a probability."""

import jax.numpy as jnp
import numpy as np

from gpt_jax.limits import Share
from gpt_jax.registry import register
from gpt_jax.sample.cutoffs import largest, ordered_bits
from gpt_jax.sample.processors import Processor, Vocabulary


@register("sample.processors", "top_p", examples=("top_p(p=0.8)",))
def top_p(given: Vocabulary, *, p: Share) -> Processor:
    """Keeps the most likely tokens whose probability first reaches p (Holtzman et al. 2020, section 3.1).

    The least likely tokens go whose summed probability is at most 1 - p; one token always stays. Among equal scores at
    the cut the ones with the lower ids go first.
    """
    return Processor(change, {"p_B": np.float32(p)}, warps=True)


def change(logits_BV, step, p_B):
    bits_BV = ordered_bits(logits_BV)
    weights_BV = jnp.exp(logits_BV - logits_BV.max(-1, keepdims=True))
    spare_B = (1 - p_B) * weights_BV.sum(-1)

    def below(threshold_BJ):
        return jnp.where(bits_BV[:, None] < threshold_BJ[:, :, None], weights_BV[:, None], 0).sum(-1)

    found_B = largest(lambda threshold_BJ: below(threshold_BJ) <= spare_B[:, None], len(logits_BV), step.bits)
    cut_B = jnp.minimum(found_B, bits_BV.max(-1))
    equal_BV = bits_BV == cut_B[:, None]
    weight_B = jnp.max(jnp.where(equal_BV, weights_BV, 0), axis=-1)
    count_B = equal_BV.sum(-1)
    room_B = jnp.floor(
        (spare_B - below(cut_B[:, None])[:, 0]) / jnp.maximum(weight_B, jnp.finfo(weights_BV.dtype).tiny)
    )
    dropped_B = jnp.clip(room_B, 0, count_B - 1).astype(jnp.int32)
    rank_BV = jnp.cumsum(equal_BV, axis=-1) - 1
    kept_BV = (bits_BV > cut_B[:, None]) | (equal_BV & (rank_BV >= dropped_B[:, None]))
    return jnp.where(kept_BV | (p_B >= 1)[:, None], logits_BV, -jnp.inf)
