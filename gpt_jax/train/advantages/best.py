"""Learning from the best sample of a prompt alone (Dong et al. 2023, RAFT)."""

from dataclasses import dataclass

import numpy as np

from gpt_jax.registry import register
from gpt_jax.train.advantages import Advantage, Estimated, Scores, spread


@register("train.advantages", "best")
def best() -> Advantage:
    """1 for the sample of a prompt with the highest reward, the first of several that are alike, and 0 for the others: with
    one update a rollout it is learned as a completion that is given. 0 for all where all are worth the same."""
    return Best()


@dataclass(frozen=True)
class Best:
    critic = False
    least = 2

    def __call__(self, scores: Scores) -> Estimated:
        real_PG = scores.by_prompt(scores.real_N)
        total_PG = np.where(real_PG, scores.by_prompt(scores.total_N), -np.inf)
        lowest_P1 = np.where(real_PG, total_PG, np.inf).min(1, keepdims=True)
        first_PG = np.arange(scores.samples) == total_PG.argmax(1)[:, None]
        return spread((first_PG & real_PG & (total_PG > lowest_P1)).reshape(-1).astype(float), scores)
