"""What objectives over pairs share: log-probabilities of whole completions, and what is reported of them."""

import abc
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from gpt_jax.train.objectives import Batch, Forward, Objective, Sums


@dataclass(frozen=True)
class Completions:
    """Completions under the policy, C to a row.

    Attributes:
      log_prob_BC: nats, summed over the targets that count.
      length_BC: how many these are.
      real_B: whether the row has any; one that has none is filling.
    """

    log_prob_BC: jax.Array
    length_BC: jax.Array
    real_B: jax.Array

    @staticmethod
    def of(forward: Forward, batch: Batch) -> "Completions":
        weights_BCT = batch["weights"]
        log_prob_BC = (forward.log_probs(batch) * weights_BCT).sum(-1)
        return Completions(log_prob_BC, weights_BCT.sum(-1), real_rows(batch))

    @property
    def mean_log_prob_BC(self) -> jax.Array:
        """Nats per token; 0 of a completion without any."""
        return self.log_prob_BC / jnp.maximum(self.length_BC, 1)

    def log_ratio_BC(self, batch: Batch) -> jax.Array:
        """log policy / reference of the completions; 0 in filling."""
        return jnp.where(self.real_B[:, None], self.log_prob_BC - batch["reference"], 0)

    def total(self, value_B: jax.Array) -> jax.Array:
        """The sum over rows that are no filling."""
        return jnp.where(self.real_B, value_B, 0).sum()


def real_rows(batch: Batch) -> jax.Array:
    """Whether a row has a target that counts, bool [B]."""
    return (batch["weights"] > 0).any((1, 2))


class Preference(Objective):
    """An objective over pairs: a loss of each, and rewards, of which the chosen completion should have the higher one.

    The lowest loss is best: it says how sure the model is, of which accuracy says only whether it is right, in steps of one
    pair. Log-probabilities are reported as they are: a margin grows while that of the chosen completion falls too (Razin et
    al. 2024).
    """

    form = "pairs"
    dropout = False
    shown = {"loss": "nats/pair", "accuracy": "accuracy"}

    def higher_is_better(self, metric: str) -> bool:
        return metric in ("accuracy", "margin", "chosen_reward", "chosen_log_prob")

    def count(self, batch: Batch) -> jax.Array:
        return real_rows(batch).sum()

    @abc.abstractmethod
    def scores(self, pairs: Completions, batch: Batch) -> tuple[jax.Array, jax.Array]:
        """The loss of each pair, [B], and the rewards of its completions, [B, 2]; finite in filling too."""

    def sums(self, forward: Forward, batch: Batch) -> Sums:
        pairs = Completions.of(forward, batch)
        loss_B, reward_BC = self.scores(pairs, batch)
        margin_B = reward_BC[:, 0] - reward_BC[:, 1]
        loss = pairs.total(loss_B)
        found = {"objective": loss, "loss": loss}
        found |= {"accuracy": pairs.total((1 + jnp.sign(margin_B)) / 2), "margin": pairs.total(margin_B)}
        for c, side in enumerate(("chosen", "rejected")):
            found[f"{side}_reward"] = pairs.total(reward_BC[:, c])
            found[f"{side}_log_prob"] = pairs.total(pairs.log_prob_BC[:, c])
            found[f"{side}_length"] = pairs.total(pairs.length_BC[:, c])
        return found
