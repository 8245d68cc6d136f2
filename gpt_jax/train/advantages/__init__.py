"""By how much each token of a rollout is better than expected: one file per estimate.

All rows of a rollout are here together, in float64, before there are micro-batches: what couples rows is data, not loss.
An advantage is a function ``name(**arguments) -> Advantage``.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np


@dataclass(frozen=True)
class Scores:
    """The rewards of a rollout of N = prompts times samples rows; those of a prompt follow each other.

    Attributes:
      reward_N: of each completion; 0 where it has none.
      real_N: whether it has one. Rows without are in no mean, and in no loss.
      weights_NT: 1 at the targets that the policy wrote, the token that ends them included.
      penalty_NT: what is added to the reward at each of them, such as -beta * log(policy / reference); 0 elsewhere.
      value_NT: what the critic expects before each target; 0 without a critic.
      samples: completions of a prompt, G.
    """

    reward_N: np.ndarray
    real_N: np.ndarray
    weights_NT: np.ndarray
    penalty_NT: np.ndarray
    value_NT: np.ndarray
    samples: int

    @property
    def total_N(self) -> np.ndarray:
        """The reward with all penalties, 0 of rows that have none."""
        return np.where(self.real_N, self.reward_N + self.penalty_NT.sum(1), 0)

    @property
    def token_rewards_NT(self) -> np.ndarray:
        """The penalties, and the reward at each row's last target."""
        found_NT = np.where(self.real_N[:, None], self.penalty_NT, 0.0)
        rows = np.flatnonzero(self.real_N & (self.weights_NT > 0).any(1))
        last = self.weights_NT.shape[1] - 1 - (self.weights_NT[rows] > 0)[:, ::-1].argmax(1)
        found_NT[rows, last] += self.reward_N[rows]
        return found_NT

    def by_prompt(self, value_N: np.ndarray) -> np.ndarray:
        """[prompts, G]."""
        return value_N.reshape(-1, self.samples)


@dataclass(frozen=True)
class Estimated:
    """[N, T]: advantages, and what a critic should have expected; both 0 where nothing was written."""

    advantage_NT: np.ndarray
    returns_NT: np.ndarray | None = None


class Advantage(Protocol):
    """See the module.

    Attributes:
      critic: whether it needs one.
      least: completions of a prompt that it needs.
    """

    @property
    def critic(self) -> bool: ...

    @property
    def least(self) -> int: ...

    def __call__(self, scores: Scores) -> Estimated: ...


def spread(advantage_N: np.ndarray, scores: Scores) -> Estimated:
    """A row's advantage at each of its targets."""
    return Estimated(advantage_N[:, None] * (scores.weights_NT > 0))


def whitened(value_NT: np.ndarray, there_NT: np.ndarray) -> np.ndarray:
    """Values of mean 0 and variance 1 (that of a sample, with n - 1) over the targets that count; 0 elsewhere, where TRL's
    ``masked_whiten`` moves what stands there too. A single value stays."""
    if there_NT.sum() < 2:
        return np.where(there_NT, value_NT, 0)
    mean, variance = value_NT[there_NT].mean(), value_NT[there_NT].var(ddof=1)
    return np.where(there_NT, (value_NT - mean) / np.sqrt(variance + 1e-8), 0)
