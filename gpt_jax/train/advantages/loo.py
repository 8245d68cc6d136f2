"""Against the mean of a prompt's other samples (Ahmadian et al. 2024, RLOO)."""

from dataclasses import dataclass

import numpy as np

from gpt_jax.registry import register
from gpt_jax.train.advantages import Advantage, Estimated, Scores, spread


@register("train.advantages", "loo")
def loo() -> Advantage:
    """r less the mean reward of the other samples of its prompt, which makes the gradient that of the expected reward; of
    one sample alone it is 0."""
    return LeaveOneOut()


@dataclass(frozen=True)
class LeaveOneOut:
    critic = False
    least = 2

    def __call__(self, scores: Scores) -> Estimated:
        total_PG, real_PG = scores.by_prompt(scores.total_N), scores.by_prompt(scores.real_N)
        others_P1 = real_PG.sum(1, keepdims=True) - 1
        baseline_PG = (total_PG.sum(1, keepdims=True) - total_PG) / np.maximum(others_P1, 1)
        return spread(np.where(real_PG & (others_P1 > 0), total_PG - baseline_PG, 0).reshape(-1), scores)
