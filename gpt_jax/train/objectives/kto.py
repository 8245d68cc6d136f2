"""Kahneman-Tversky optimisation: completions that are wanted or not, each by itself (Ethayarajh et al. 2024)."""

from typing import Any

import jax
import jax.numpy as jnp

from gpt_jax.limits import Positive
from gpt_jax.registry import register
from gpt_jax.train.objectives import Batch, Forward, Objective, Sums
from gpt_jax.train.objectives.preference import Completions, real_rows

OWN, OTHER = slice(0, 1), slice(1, 2)  # of a row's completions
SIDES = ("wanted", "unwanted")


@register("train.objectives", "kto", examples=("kto", "kto(beta=0.3, wanted=1.2, unwanted=0.8)"))
class KTO(Objective):
    """wanted (1 - sigmoid(beta (d - z))) or unwanted (1 - sigmoid(beta (z - d))), d the log-ratio to the reference of the
    row's completion (equation 8).

    z is the drift of the policy from the reference: the mean log-ratio over the batch of completions that belong to another
    prompt, at least 0, without a gradient. A batch needs several rows for it. With n wanted and m unwanted examples, choose
    wanted n / (unwanted m) between 1 and 4/3 (section 4.1).
    """

    form = "labelled"
    reference = True
    dropout = False
    shown = {"loss": "per example", "accuracy": "accuracy"}

    def __init__(self, *, beta: Positive = 0.1, wanted: Positive = 1.0, unwanted: Positive = 1.0):
        self.beta, self.wanted, self.unwanted = beta, wanted, unwanted

    def higher_is_better(self, metric: str) -> bool:
        return metric in ("accuracy", "wanted_reward", "wanted_log_prob")

    def count(self, batch: Batch) -> jax.Array:
        return real_rows(_part(batch, OWN)).sum()

    def coupled(self, forward: Forward, batch: Batch) -> Sums:
        """ "drift" over "others" rows."""
        others = _part(batch, OTHER)
        found = Completions.of(forward, others)
        return {"drift": found.log_ratio_BC(others).sum(), "others": found.real_B.sum()}

    def sums(self, forward: Forward, batch: Batch) -> Sums:
        found = self.evaluation(forward, batch)
        del found["count"]
        return {"objective": found["loss"], **found}

    def reported(self, means: dict[str, float]) -> dict[str, float]:
        return self.metrics({**means, "count": 1})

    def evaluation(self, forward: Forward, batch: Batch) -> Sums:
        own = _part(batch, OWN)
        policy = Completions.of(forward, own)
        ratio_B = policy.log_ratio_BC(own)[:, 0]
        drift = jnp.maximum(forward.coupled["drift"] / jnp.maximum(forward.coupled["others"], 1), 0)
        ahead_B = self.beta * (ratio_B - drift)
        wanted_B = batch["label"] > 0
        loss_B = jnp.where(wanted_B, self.wanted * jax.nn.sigmoid(-ahead_B), self.unwanted * jax.nn.sigmoid(ahead_B))
        right_B = (1 + jnp.where(wanted_B, 1, -1) * jnp.sign(ahead_B)) / 2
        found = {"loss": policy.total(loss_B), "accuracy": policy.total(right_B), "count": policy.real_B.sum()}
        found["drift"] = drift * found["count"]
        for side, rows_B in zip(SIDES, (wanted_B, ~wanted_B), strict=True):
            values = (self.beta * ratio_B, policy.log_prob_BC[:, 0], policy.length_BC[:, 0])
            sums = (policy.total(jnp.where(rows_B, value_B, 0)) for value_B in values)
            found |= dict(zip(_reported(side), sums, strict=True)) | {side: (policy.real_B & rows_B).sum()}
        return found

    def metrics(self, totals: dict[str, Any]) -> dict[str, float]:
        """Means over all rows; rewards, log-probabilities (nats) and lengths (tokens) over the rows of either side, where it
        has some."""
        sides = {name: side for side in SIDES for name in (*_reported(side), side)}
        values = {name: totals[name] / max(totals["count"], 1) for name in totals if name not in (*sides, "count")}
        for name, side in sides.items():
            if name != side and totals[side]:
                values[name] = totals[name] / totals[side]
        return values


def _reported(side: str) -> tuple[str, str, str]:
    return f"{side}_reward", f"{side}_log_prob", f"{side}_length"


def _part(batch: Batch, options: slice) -> Batch:
    """The batch with some of the completions of each row."""
    return {name: a[:, options] if a.ndim > 1 else a for name, a in batch.items()}
