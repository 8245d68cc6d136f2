"""Multi-query associative recall: k1 v1 k2 v2 ..., then keys again with their values (Arora et al. 2023, "Zoology")."""

import numpy as np

from gpt_jax.config import Config
from gpt_jax.data import cache
from gpt_jax.data.tasks import Task, generator, need
from gpt_jax.data.tasks import weights as counted_weights
from gpt_jax.limits import Rows, Seed
from gpt_jax.registry import register


@register("data.sources", "recall")
def recall(
    config: Config, *, pairs: Rows, keys: Rows = 64, values: Rows = 64, once: bool = False, seed: Seed = 0
) -> Task:
    """``pairs`` different keys (ids < ``keys``) with random values (the ids after them), then queries to the end.

    A query is one of the pairs, drawn uniformly: its key, then its value; with ``once`` every pair is asked for one time, in
    random order, so that no answer can be read from a query before. Only the queries' values count.
    """
    context = config.model.context
    need("values", values, 2, "nothing would be random")
    need("pairs", pairs, 1, "there is nothing to recall")
    need("keys", keys, pairs, f"{pairs} pairs have different keys")
    if once:
        need("model.context", context, 4 * pairs - 1, f"{pairs} pairs and a query of each must fit")
    need("model.context", context, 2 * pairs + 1, f"{pairs} pairs and a query must fit")
    queries = pairs if once else (context + 1) // 2 - pairs
    answers = 2 * pairs + 2 * np.arange(queries) + 1

    def window(rng: np.random.Generator) -> np.ndarray:
        key = rng.permutation(keys)[:pairs]
        value = keys + rng.integers(values, size=pairs)
        asked = rng.permutation(pairs) if once else rng.integers(pairs, size=queries)
        order = np.concatenate([np.arange(pairs), asked])
        return np.stack([key[order], value[order]], axis=1).ravel()

    def fill(stream: int, windows_B: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        tokens_BT = np.zeros((len(windows_B), context + 1), np.int32)
        for row, i in zip(tokens_BT, windows_B, strict=True):
            row[: 2 * (pairs + queries)] = window(generator(seed, stream, i))
        return tokens_BT, counted_weights(windows_B, context, answers)

    return Task(keys + values, context, fill, cache.digest("recall", pairs, keys, values, once, seed, context))
