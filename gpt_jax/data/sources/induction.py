"""Repeated random blocks: the test for induction heads (Olsson et al. 2022, section "induction heads")."""

import numpy as np

from gpt_jax.config import Config
from gpt_jax.data import cache
from gpt_jax.data.tasks import Task, integers, need, weights
from gpt_jax.errors import UserError
from gpt_jax.registry import register


@register("data.sources", "induction")
def induction(config: Config, *, block: int, symbols: int = 64, seed: int = 0) -> Task:
    """``block`` uniform symbols, ids < ``symbols``, repeated to the end of the window.

    What follows the first token of the second block on counts; its loss can be 0 by looking ``block - 1`` back.
    """
    context = config.model.context
    need("symbols", symbols, 2, "nothing would be random")
    need("block", block, 1, "a block has tokens")
    if block >= context:
        raise UserError(
            f"a block of {block} does not repeat within model.context = {context}",
            where="config.data.source",
            allowed=f"1 to {context - 1}",
        )

    def fill(stream: int, windows_B: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        block_BT = integers(seed, stream, windows_B, symbols, block)
        return block_BT[:, np.arange(context + 1) % block], weights(
            windows_B, context, np.arange(block + 1, context + 1)
        )

    return Task(symbols, context, fill, cache.digest("induction", block, symbols, seed, context))
