"""Copying: x1 ... xn, a mark, x1 ... xn again. Needs attention to a fixed distance."""

import numpy as np

from gpt_jax.config import Config
from gpt_jax.data import cache
from gpt_jax.data.tasks import Task, integers, need, weights
from gpt_jax.limits import Rows, Seed
from gpt_jax.registry import register


@register("data.sources", "copy")
def copy(config: Config, *, symbols: Rows = 64, seed: Seed = 0) -> Task:
    """Uniform symbols, ids < ``symbols``; the mark is id ``symbols``; n = T // 2.

    Only the copy counts; its loss can be 0.
    """
    context = config.model.context
    need("symbols", symbols, 2, "there is nothing to copy")
    need("model.context", context, 2, "a symbol, the mark and the copy must fit")
    n = context // 2

    def fill(stream: int, windows_B: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        x_BT = integers(seed, stream, windows_B, symbols, n)
        tokens_BT = np.full((len(windows_B), context + 1), symbols, np.int32)
        tokens_BT[:, :n] = x_BT
        tokens_BT[:, n + 1 : 2 * n + 1] = x_BT
        return tokens_BT, weights(windows_B, context, np.arange(n + 1, 2 * n + 1))

    return Task(symbols + 1, context, fill, cache.digest("copy", symbols, seed, context))
