"""Against what a critic expects (Schulman et al. 2016, generalised advantage estimation)."""

from dataclasses import dataclass

import numpy as np

from gpt_jax.limits import Share
from gpt_jax.registry import register
from gpt_jax.train.advantages import Advantage, Estimated, Scores, whitened


@register("train.advantages", "gae", examples=("gae", "gae(gamma=0.9, lam=0.8, whiten=False)"))
def gae(*, gamma: Share = 1.0, lam: Share = 0.95, whiten: bool = True) -> Advantage:
    """Sums of (gamma lam)^k d over the targets that follow, d = r + gamma V' - V (equation 16). V' is 0 after the last.

    Args:
      whiten: advantages get mean 0 and variance 1 over the rollout; returns do not.
    """
    return Gae(gamma, lam, whiten)


@dataclass(frozen=True)
class Gae:
    gamma: float
    lam: float
    whiten: bool
    critic = True
    least = 1

    def __call__(self, scores: Scores) -> Estimated:
        reward_NT, there_NT = scores.token_rewards_NT, (scores.weights_NT > 0) & scores.real_N[:, None]
        found_NT = np.zeros(reward_NT.shape)
        following_N, ahead_N = np.zeros(len(reward_NT)), np.zeros(len(reward_NT))
        for t in reversed(range(reward_NT.shape[1])):
            # A place between targets, where something else than the policy wrote, hands both on as they are.
            delta_N = reward_NT[:, t] + self.gamma * following_N - scores.value_NT[:, t]
            here_N = delta_N + self.gamma * self.lam * ahead_N
            ahead_N = np.where(there_NT[:, t], here_N, ahead_N)
            following_N = np.where(there_NT[:, t], scores.value_NT[:, t], following_N)
            found_NT[:, t] = np.where(there_NT[:, t], here_N, 0)
        returns_NT = np.where(there_NT, found_NT + scores.value_NT, 0)
        return Estimated(whitened(found_NT, there_NT) if self.whiten else found_NT, returns_NT)
