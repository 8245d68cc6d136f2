"""Repeated random blocks: the test for induction heads (Olsson et al. 2022, section "induction heads")."""

import numpy as np

from gpt_jax.config import Config
from gpt_jax.data import cache
from gpt_jax.data.tasks import Task, integers, need, weights
from gpt_jax.errors import UserError
from gpt_jax.limits import Natural, Rows, Seed
from gpt_jax.registry import register

LENGTHS = 8  # numbers of the streams of random lengths begin here, apart from those of the symbols


@register("data.sources", "induction")
def induction(config: Config, *, block: Rows, shortest: Natural = 0, symbols: Rows = 64, seed: Seed = 0) -> Task:
    """``block`` uniform symbols, ids < ``symbols``, repeated to the end of the window.

    What follows the first token of the second block on counts; its loss can be 0 by looking ``block - 1`` back. With
    ``shortest``, each window has a length of its own between that and ``block``, so that what came before has to be
    found by its content, not by its distance.
    """
    context = config.model.context
    need("symbols", symbols, 2, "nothing would be random")
    need("block", block, 1, "a block has tokens")
    if not 0 <= shortest <= block:
        raise UserError(f"shortest = {shortest}", where="config.data.source", allowed=f"0 (= block) to {block}")
    if block >= context:
        raise UserError(
            f"a block of {block} does not repeat within model.context = {context}",
            where="config.data.source",
            allowed=f"1 to {context - 1}",
        )

    def fill(stream: int, windows_B: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        block_BT = integers(seed, stream, windows_B, symbols, block)
        if not shortest:
            counted_T = np.arange(block + 1, context + 1)
            return block_BT[:, np.arange(context + 1) % block], weights(windows_B, context, counted_T)
        span = block - shortest + 1
        length_B1 = shortest + integers(seed, LENGTHS + stream, windows_B, span, 1)
        tokens_BT = np.take_along_axis(block_BT, np.arange(context + 1) % length_B1, axis=1)
        return tokens_BT, (np.arange(1, context + 1) > length_B1).astype(np.float32)

    digest = cache.digest("induction", block, symbols, seed, context, *([shortest] if shortest else []))
    return Task(symbols, context, fill, digest)
