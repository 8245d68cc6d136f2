"""Simple preference optimisation: the reward is the policy's own log-probability per token (Meng et al. 2024)."""

import jax

from gpt_jax.limits import Factor, Positive
from gpt_jax.registry import register
from gpt_jax.train.objectives import Batch
from gpt_jax.train.objectives.preference import Completions, Preference


@register("train.objectives", "simpo", examples=("simpo", "simpo(beta=5.0, gamma=2.5)"))
class SimPO(Preference):
    """-log sigmoid(beta (a_w - a_l) - gamma), a the mean log-probability of a completion's tokens (equation 6).

    There is no reference: a low learning rate is what keeps the model near its start.
    """

    def __init__(self, *, beta: Positive = 2.0, gamma: Factor = 1.0):
        self.beta, self.gamma = beta, gamma

    def scores(self, pairs: Completions, batch: Batch) -> tuple[jax.Array, jax.Array]:
        reward_BC = self.beta * pairs.mean_log_prob_BC
        return jax.nn.softplus(self.gamma - (reward_BC[:, 0] - reward_BC[:, 1])), reward_BC
