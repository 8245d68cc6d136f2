"""Against the mean of a prompt's other samples and its own (Shao et al. 2024, GRPO)."""

from dataclasses import dataclass

import numpy as np

from gpt_jax.limits import Factor
from gpt_jax.registry import register
from gpt_jax.train.advantages import Advantage, Estimated, Scores, spread


@register("train.advantages", "group", examples=("group", "group(std=False)"))
def group(*, std: bool = True, eps: Factor = 1e-6) -> Advantage:
    """(r - mean) / (std + eps) over the rewards of a prompt's samples; of one sample alone it is 0, in
    verl its reward.

    Args:
      std: whether it is divided by the standard deviation (that of a sample, with n - 1); without it the gradient is
        that of the expected reward, times (G - 1) / G (Liu et al. 2025, Dr. GRPO).
      eps: as in verl; TRL's is 1e-4.
    """
    return Group(std, eps)


@dataclass(frozen=True)
class Group:
    std: bool
    eps: float
    critic = False
    least = 2

    def __call__(self, scores: Scores) -> Estimated:
        total_PG, real_PG = scores.by_prompt(scores.total_N), scores.by_prompt(scores.real_N)
        count_P1 = real_PG.sum(1, keepdims=True)
        mean_P1 = total_PG.sum(1, keepdims=True) / np.maximum(count_P1, 1)
        apart_PG = np.where(real_PG, total_PG - mean_P1, 0)
        # The mean of equal numbers may be none of them: divided by a deviation of rounding errors it would count.
        apart_PG = np.where(_alike(total_PG, real_PG), 0, apart_PG)
        if self.std:
            variance_P1 = (apart_PG**2).sum(1, keepdims=True) / np.maximum(count_P1 - 1, 1)
            deviation_P1 = np.sqrt(variance_P1) + self.eps
            apart_PG = np.divide(apart_PG, deviation_P1, out=np.zeros_like(apart_PG), where=deviation_P1 > 0)
        return spread(apart_PG.reshape(-1), scores)


def _alike(total_PG: np.ndarray, real_PG: np.ndarray) -> np.ndarray:
    """Whether all rewards of a prompt are the same, bool [P, 1]."""
    high_P1 = np.where(real_PG, total_PG, -np.inf).max(1, keepdims=True)
    low_P1 = np.where(real_PG, total_PG, np.inf).min(1, keepdims=True)
    return high_P1 <= low_P1
