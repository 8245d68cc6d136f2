"""Multi-query associative recall: k1 v1 k2 v2 ..., then keys again with their values (Arora et al. 2023, "Zoology")."""

import numpy as np

from gpt_jax.config import Config
from gpt_jax.data import cache
from gpt_jax.data.tasks import Task, generator, need
from gpt_jax.data.tasks import weights as counted_weights
from gpt_jax.registry import register


@register("data.sources", "recall")
def recall(config: Config, *, pairs: int, keys: int = 64, values: int = 64, seed: int = 0) -> Task:
    """``pairs`` different keys (ids < ``keys``) with random values (the ids after them), then queries to the end.

    A query is one of the pairs, drawn uniformly: its key, then its value. Only the queries' values count.
    """
    context = config.model.context
    need("values", values, 2, "nothing would be random")
    need("pairs", pairs, 1, "there is nothing to recall")
    need("keys", keys, pairs, f"{pairs} pairs have different keys")
    need("model.context", context, 2 * pairs + 1, f"{pairs} pairs and a query must fit")
    queries = (context + 1) // 2 - pairs
    answers = 2 * pairs + 2 * np.arange(queries) + 1

    def window(rng: np.random.Generator) -> np.ndarray:
        key = rng.permutation(keys)[:pairs]
        value = keys + rng.integers(values, size=pairs)
        order = np.concatenate([np.arange(pairs), rng.integers(pairs, size=queries)])
        return np.stack([key[order], value[order]], axis=1).ravel()

    def fill(stream: int, windows_B: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        tokens_BT = np.zeros((len(windows_B), context + 1), np.int32)
        for row, i in zip(tokens_BT, windows_B, strict=True):
            row[: 2 * (pairs + queries)] = window(generator(seed, stream, i))
        return tokens_BT, counted_weights(windows_B, context, answers)

    return Task(keys + values, context, fill, cache.digest("recall", pairs, keys, values, seed, context))
