"""Addition modulo p from a part of its table: the task on which grokking was found (Power et al. 2022)."""

from typing import Annotated

import numpy as np

from gpt_jax.config import Config
from gpt_jax.data import cache
from gpt_jax.data.tasks import TABLE_STREAM, VALID_STREAM, Task, generator, need, weights
from gpt_jax.limits import Limits, Seed
from gpt_jax.registry import register

EXAMPLE = 4  # tokens: a, b, =, (a + b) mod p


@register("data.sources", "modular_addition")
def modular_addition(config: Config, *, p: Annotated[int, Limits(2, 2048)] = 97, seed: Seed = 0) -> Task:
    """Examples "a b = c", numbers as ids below p and "=" as id p; only c counts. Meant for model.context = 3.

    The p * p pairs are shuffled by ``seed`` and the last ``config.data.valid_fraction`` of them held out. A longer
    context holds several examples, of the same pairs in every epoch.
    """
    context = config.model.context
    need("model.context", context, EXAMPLE - 1, "an example a b = c must fit")
    pairs = generator(seed, TABLE_STREAM).permutation(p * p)
    cut = int(len(pairs) * (1 - config.data.valid_fraction))
    each = (context + 1) // EXAMPLE
    splits = pairs[:cut], pairs[cut:]
    need("pairs held out", len(splits[VALID_STREAM]), each, "they do not fill a window; raise data.valid_fraction or p")
    need("pairs to train on", cut, each, "they do not fill a window; lower data.valid_fraction or raise p")

    def fill(stream: int, windows_B: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        pair_BE = splits[stream][windows_B[:, None] * each + np.arange(each)]
        a_BE, b_BE = pair_BE // p, pair_BE % p
        examples_BE4 = np.stack([a_BE, b_BE, np.full_like(a_BE, p), (a_BE + b_BE) % p], axis=-1)
        tokens_BT = np.full((len(windows_B), context + 1), p, np.int32)
        tokens_BT[:, : each * EXAMPLE] = examples_BE4.reshape(len(windows_B), -1)
        return tokens_BT, weights(windows_B, context, np.arange(1, each + 1) * EXAMPLE - 1)

    return Task(
        vocab=p + 1,
        context=context,
        fill=fill,
        digest=cache.digest("modular_addition", p, seed, context, cut),
        train=len(splits[0]) // each,
        valid=len(splits[1]) // each,
        unit=EXAMPLE,
    )
