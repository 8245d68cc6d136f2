"""A reward model: a score of a completion, by a linear head on the state at its end (Ouyang et al. 2022)."""

import math
from typing import Any

import jax
import jax.numpy as jnp

from gpt_jax.config import Config
from gpt_jax.limits import Factor
from gpt_jax.registry import register
from gpt_jax.train.objectives import Batch, Forward, Objective, Sums


@register("train.objectives", "reward", examples=("reward", "reward(center=0.0)"))
class Reward(Objective):
    """mean over pairs of -log sigmoid(r_w - r_l - margin) + center * (r_w + r_l)^2 (Ouyang et al. 2022, equation 1; Touvron
    et al. 2023, equation 2; Eisenstein et al. 2023).

    ``margin`` is a row's own, 0 where it has none.

    Args:
      center: weight of what keeps scores around 0.
    """

    form = "pairs(ends=True)"
    shown = {"loss": "nats/pair", "accuracy": "accuracy", "margin": "margin"}
    dropout = False
    writes = False

    def __init__(self, *, center: Factor = 0.01):
        self.center = center

    def heads(self, config: Config, key: jax.Array) -> dict[str, Any]:
        width = config.model.width
        return {"w": jax.random.normal(key, (width, 1)) / math.sqrt(width + 1), "bias": jnp.zeros(1)}

    def higher_is_better(self, metric: str) -> bool:
        return metric in ("accuracy", "margin", "chosen_reward")

    def count(self, batch: Batch) -> jax.Array:
        return _real(batch).sum()

    def sums(self, forward: Forward, batch: Batch) -> Sums:
        reward_BC, real_B = scores(forward, batch), _real(batch)
        margin_B = reward_BC[:, 0] - reward_BC[:, 1]
        asked_B = batch["margin"] if "margin" in batch else 0
        loss_B = jax.nn.softplus(asked_B - margin_B)
        found = {
            "objective": loss_B + self.center * jnp.square(reward_BC.sum(-1)),
            "loss": loss_B,
            "accuracy": (1 + jnp.sign(margin_B)) / 2,  # a tie is half right
            "margin": margin_B,
            "chosen_reward": reward_BC[:, 0],
            "rejected_reward": reward_BC[:, 1],
        }
        return {name: jnp.where(real_B, value_B, 0).sum() for name, value_B in found.items()}


def scores(forward: Forward, batch: Batch) -> jax.Array:
    """The rewards of completions, float32 [B, C]: of the state at the last token that a model learns to write, which ends
    the completion.

    Args:
      batch: rows whose ``tokens`` have that token, as ``pairs(ends=True)`` makes them; with padding on either side.
    """
    states_BCTD, end_BC = forward.states(batch), ends(batch["weights"])
    state_BCD = jnp.take_along_axis(states_BCTD, end_BC[..., None, None], 2)[:, :, 0]
    w_D1 = forward.heads["w"]
    return (state_BCD.astype(w_D1.dtype) @ w_D1)[..., 0] + forward.heads["bias"]


def ends(weights_BCT: jax.Array) -> jax.Array:
    """The place of the last target that counts among the tokens, [B, C]: each target is the token of the next place."""
    context = weights_BCT.shape[-1]
    last_BC = context - 1 - (weights_BCT > 0)[..., ::-1].argmax(-1)
    return jnp.minimum(last_BC + 1, context - 1)


def _real(batch: Batch) -> jax.Array:
    """Whether a pair is no filling, bool [B]."""
    return (batch["weights"] > 0).any((1, 2))
