"""No run of tokens twice."""

import jax.numpy as jnp
import numpy as np

from gpt_jax.limits import Count
from gpt_jax.registry import register
from gpt_jax.sample.history import repeats
from gpt_jax.sample.processors import Processor, Vocabulary, marked


@register("sample.processors", "no_repeat_ngram", examples=("no_repeat_ngram(size=2)",))
def no_repeat_ngram(given: Vocabulary, *, size: Count) -> Processor:
    """Removes tokens that would end a run of ``size`` tokens that prompt or text have already (Paulus et al. 2017, section
    2.5)."""
    return Processor(change, {"size_B": np.int32(size)})


def change(logits_BV, step, size_B):
    ends_BS = step.real_BS & (repeats(step, size_B - 1) >= size_B[:, None] - 1)
    return jnp.where(marked(step.tokens_BS, logits_BV.shape[1], ends_BS), -jnp.inf, logits_BV)
