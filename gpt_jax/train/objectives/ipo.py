"""Identity preference optimisation: the log-ratios of a pair are to differ by so much, and no more (Azar et al. 2023)."""

import jax
import jax.numpy as jnp

from gpt_jax.limits import Positive
from gpt_jax.registry import register
from gpt_jax.train.objectives import Batch
from gpt_jax.train.objectives.preference import Completions, Preference


@register("train.objectives", "ipo", examples=("ipo", "ipo(tau=0.5)"))
class IPO(Preference):
    """(h - 1 / (2 tau))^2, h = log-ratio per token of the chosen - of the rejected completion (equation 17).

    The mean over tokens is the authors' reading of their equation, as TRL has it since 0.8; a sum favours long completions.
    Rewards are tau times the log-ratios.
    """

    reference = True
    shown = {"loss": "", "accuracy": "accuracy"}

    def __init__(self, *, tau: Positive = 0.1):
        self.tau = tau

    def scores(self, pairs: Completions, batch: Batch) -> tuple[jax.Array, jax.Array]:
        ratio_BC = pairs.log_ratio_BC(batch) / jnp.maximum(pairs.length_BC, 1)
        h_B = ratio_BC[:, 0] - ratio_BC[:, 1]
        return jnp.square(h_B - 1 / (2 * self.tau)), self.tau * ratio_BC
