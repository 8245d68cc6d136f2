"""What follows each token, against the mean over the rollout (Hu 2025, REINFORCE++)."""

import dataclasses

import numpy as np

from gpt_jax.limits import Share
from gpt_jax.registry import register
from gpt_jax.train.advantages import Advantage, Estimated, Scores, whitened


@register("train.advantages", "returns", examples=("returns", "returns(gamma=0.9, whiten=False, baseline=True)"))
def returns(*, gamma: Share = 1.0, whiten: bool = True, baseline: bool = False) -> Advantage:
    """Sums of gamma^k r over a target and those that follow.

    Args:
      whiten: they get mean 0 and variance 1 over the rollout.
      baseline: the mean reward of a prompt's samples, without penalties, is taken off first, as OpenRLHF does; verl takes
        off the mean of what is left of it after them.
    """
    return Returns(gamma, whiten, baseline)


@dataclasses.dataclass(frozen=True)
class Returns:
    gamma: float
    whiten: bool
    baseline: bool
    critic = False

    @property
    def least(self) -> int:
        return 2 if self.baseline else 1

    def __call__(self, scores: Scores) -> Estimated:
        there_NT = (scores.weights_NT > 0) & scores.real_N[:, None]
        reward_NT = self._less_mean(scores).token_rewards_NT if self.baseline else scores.token_rewards_NT
        found_NT, following_N = np.zeros(reward_NT.shape), np.zeros(len(reward_NT))
        for t in reversed(range(reward_NT.shape[1])):
            here_N = reward_NT[:, t] + self.gamma * following_N
            following_N = np.where(there_NT[:, t], here_N, following_N)
            found_NT[:, t] = np.where(there_NT[:, t], here_N, 0)
        return Estimated(whitened(found_NT, there_NT) if self.whiten else found_NT)

    @staticmethod
    def _less_mean(scores: Scores) -> Scores:
        reward_PG, real_PG = scores.by_prompt(scores.reward_N), scores.by_prompt(scores.real_N)
        mean_P1 = np.where(real_PG, reward_PG, 0).sum(1, keepdims=True) / np.maximum(real_PG.sum(1, keepdims=True), 1)
        left_N = np.where(real_PG, reward_PG - mean_P1, 0).reshape(-1)
        return dataclasses.replace(scores, reward_N=left_N)
