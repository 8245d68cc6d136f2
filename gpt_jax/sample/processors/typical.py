"""Tokens that surprise about as much as the distribution does on average."""

import jax
import jax.numpy as jnp
import numpy as np

from gpt_jax.limits import Between
from gpt_jax.registry import register
from gpt_jax.sample.cutoffs import entropy, largest, ordered_bits
from gpt_jax.sample.processors import Processor, Vocabulary


@register("sample.processors", "typical", examples=("typical(mass=0.8)",))
def typical(given: Vocabulary, *, mass: Between) -> Processor:
    """Keeps the tokens whose surprise is nearest the entropy, up to a probability of ``mass`` (Meister et al. 2023).

    Those stay whose distance |-log p - H| is at most that at which the sum of probabilities first reaches ``mass``, all
    that equal it too.
    """
    return Processor(change, {"mass_B": np.float32(mass)}, warps=True)


def change(logits_BV, step, mass_B):
    log_BV = jax.nn.log_softmax(logits_BV)
    distance_BV = jnp.abs(-log_BV - entropy(log_BV)[:, None])
    bits_BV, p_BV = ordered_bits(distance_BV), jnp.exp(log_BV)

    def short(threshold_BJ):
        nearer_BJ = jnp.where(bits_BV[:, None] < threshold_BJ[:, :, None], p_BV[:, None], 0).sum(-1)
        return nearer_BJ < mass_B[:, None]

    cut_B = largest(short, len(logits_BV), step.bits)
    return jnp.where(bits_BV <= cut_B[:, None], logits_BV, -jnp.inf)
