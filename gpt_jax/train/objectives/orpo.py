"""Odds ratio preference optimisation: fine-tuning that lowers the odds of rejected completions too (Hong et al. 2024)."""

import jax
import jax.numpy as jnp

from gpt_jax.limits import Positive
from gpt_jax.registry import register
from gpt_jax.train.objectives import Batch
from gpt_jax.train.objectives.preference import Completions, Preference


@register("train.objectives", "orpo", examples=("orpo", "orpo(weight=0.5)"))
class ORPO(Preference):
    """-a_w - weight log sigmoid(o), o = log odds(a_w) - log odds(a_l), log odds(a) = a - log(1 - e^a), a the mean
    log-probability of a completion's tokens (equations 4 to 7).

    The likelihood is that of the chosen completion; TRL's counts the prompt's tokens too. Rewards are weight a, as there.
    """

    def __init__(self, *, weight: Positive = 0.1):
        self.weight = weight

    def scores(self, pairs: Completions, batch: Batch) -> tuple[jax.Array, jax.Array]:
        mean_BC = pairs.mean_log_prob_BC
        # Of a probability that rounds to 1 the odds are not finite.
        surprise_BC = jnp.maximum(-mean_BC, jnp.finfo(mean_BC.dtype).eps)
        odds_BC = mean_BC - jax.nn.log1mexp(surprise_BC)
        ratio_B = odds_BC[:, 0] - odds_BC[:, 1]
        return -mean_BC[:, 0] + self.weight * jax.nn.softplus(-ratio_B), self.weight * mean_BC
