"""What objectives over a policy's own completions share: ratios, clips, divergences, and what is reported of them.

A batch of a rollout (``train.feeds.rollout``) has, beside tokens, targets and weights [B, T]: old [B, T], log-probabilities
under the policy that wrote the row; advantage [B, T]; limit [B], the most tokens that a completion may have; with ``kl`` in
the loss reference [B, T]; with a critic value and returns [B, T]. All log-probabilities are those of the logits divided by
the temperature that the rollout was drawn with. Rows whose weights are all 0 have no reward, and change nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from gpt_jax import registry
from gpt_jax.config import Config
from gpt_jax.errors import UserError
from gpt_jax.train.advantages import Advantage
from gpt_jax.train.objectives import Batch, Best, Forward, Objective, Sums

WHERE = "config.tune.objective"
MOST = 10.0  # of the log-ratio to the reference, nats: its exponential has to be finite
FAR = 20.0  # of the log-ratio to the policy that wrote, nats, for the same reason
PER_TARGET = ("old", "advantage", "reference", "value", "returns")


def k1(log_ratio: jax.Array) -> jax.Array:
    """log policy / reference of what the policy wrote; its mean is their divergence."""
    return log_ratio


def k2(log_ratio: jax.Array) -> jax.Array:
    """Half the square (Schulman 2020). As a loss it has, in the mean over what the policy writes, the gradient of
    KL(policy || reference) of each next token, and so that of k1 in the reward of that token alone. k1 in the reward of a
    whole completion also has what a token does to the tokens after it."""
    return jnp.square(log_ratio) / 2


def k3(log_ratio: jax.Array) -> jax.Array:
    """exp(-x) - 1 + x: never negative, and with k1's mean. As a loss it has the gradient of KL(reference || policy) of each
    next token. Beyond 10 nats it is what it is there, and has none; verl has none from a value of 10 on."""
    near = jnp.clip(log_ratio, -MOST, MOST)
    return jnp.expm1(-near) + near


# As losses they are not weighted by the ratio: they hold of the policy that wrote, and nearly of those a few updates later.
ESTIMATORS: dict[str, Callable] = {"k1": k1, "k2": k2, "k3": k3}
MEANS = ("tokens", "sequences", "constant")
RATIOS = ("token", "sequence", "product")


@dataclass(frozen=True)
class Clip:
    """How far an update may go.

    Attributes:
      low, high: a ratio outside of 1 - low to 1 + high moves nothing further that way.
      dual: where the advantage is negative, the loss is at most this times its size (Ye et al. 2020); more than 1, 0 = off.
      ratio: of each token, "token"; of the whole completion, "product", or the geometric mean of its tokens', "sequence".
      weighted: the ratio, at most 1 + high, weights the gradient and has none itself (CISPO, MiniMax 2025), so that no token
        is lost. TRL's ``epsilon_high`` is 1 + high here.
    """

    low: float = 0.2
    high: float = 0.2
    dual: float = 0.0
    ratio: str = "token"
    weighted: bool = False

    def losses(self, log_prob_BT: jax.Array, batch: Batch) -> tuple[jax.Array, jax.Array, jax.Array]:
        """[B, T]: the loss of each target, the ratio, and whether it is clipped.

        Args:
          log_prob_BT, batch: 0 at targets that do not count.
        """
        weights_BT, advantage_BT = batch["weights"], batch["advantage"]
        log_ratio_BT = log_prob_BT - batch["old"]
        if self.ratio != "token":
            log_ratio_BT = jnp.broadcast_to(log_ratio_BT.sum(1, keepdims=True), log_ratio_BT.shape)
        if self.ratio == "sequence":
            log_ratio_BT = log_ratio_BT / jnp.maximum(weights_BT.sum(1, keepdims=True), 1)
        ratio_BT = jnp.exp(jnp.clip(log_ratio_BT, -FAR, FAR))
        if self.weighted:
            weight_BT = jax.lax.stop_gradient(jnp.minimum(ratio_BT, 1 + self.high))
            return -weight_BT * advantage_BT * log_prob_BT, ratio_BT, ratio_BT > 1 + self.high
        clipped_BT = jnp.clip(ratio_BT, 1 - self.low, 1 + self.high)
        loss_BT = jnp.maximum(-advantage_BT * ratio_BT, -advantage_BT * clipped_BT)
        binding_BT = -advantage_BT * clipped_BT > -advantage_BT * ratio_BT
        if self.dual:
            most_BT = jnp.where(advantage_BT < 0, -self.dual * advantage_BT, jnp.inf)
            loss_BT, binding_BT = jnp.minimum(loss_BT, most_BT), binding_BT | (loss_BT > most_BT)
        return loss_BT, ratio_BT, binding_BT


@dataclass(frozen=True)
class Critic:
    """How the value head learns: c / 2 times the larger of two squared errors, of the value and of the value clipped to
    ``clip`` around what it was (Schulman et al. 2017's code). 0 = not clipped."""

    weight: float
    clip: float

    def losses(self, value_BT: jax.Array, batch: Batch) -> jax.Array:
        error_BT = jnp.square(value_BT - batch["returns"])
        if self.clip:
            near_BT = jnp.clip(value_BT, batch["value"] - self.clip, batch["value"] + self.clip)
            error_BT = jnp.maximum(error_BT, jnp.square(near_BT - batch["returns"]))
        return self.weight / 2 * error_BT


@dataclass(frozen=True)
class Divergence:
    """What keeps the policy near the reference; see ``Policy``."""

    kl: float
    estimator: str
    target: float = 0.0
    horizon: int = 10_000


class Policy(Objective):
    """A policy that learns from rewards of what it writes.

    The mean of "sequences" and "constant" is over the rows that have a weight. TRL divides by all rows, those that it leaves
    out included; verl as here.

    Attributes:
      advantage: of ``gpt_jax/train/advantages``.
      kl: what a nat of divergence from the reference costs.
      estimator: k1 is part of the reward; k2 and k3 of the loss.
      target: nats that a completion may diverge, to which ``kl`` is adapted over ``horizon`` completions; 0 = it stays.
      mask_cut: completions that the policy did not end are in no loss.
      resample: how often other prompts take the place of those whose completions are all worth the same.
    """

    form = "prompts"
    best = Best("reward", highest=True)
    shown = {"reward": "a completion", "greedy": "a greedy one", "kl": "nats from the reference"}
    dropout = False
    begins = True

    def __init__(
        self,
        *,
        advantage: str,
        mean: str,
        clip: Clip,
        critic: Critic | None,
        divergence: Divergence,
        entropy: float,
        mask_cut: bool,
        resample: int = 0,
    ):
        _check("mean", mean, MEANS)
        _check("ratio", clip.ratio, RATIOS)
        _check("kl_estimator", divergence.estimator, tuple(ESTIMATORS))
        if 0 < clip.dual <= 1:
            raise UserError(f"dual_clip = {clip.dual:g}", where=WHERE, allowed="numbers above 1; 0 for none")
        if clip.weighted and clip.dual:
            raise UserError("weighted and dual_clip both say how far a ratio may go", where=WHERE, fix="leave one out")
        if divergence.target and not (divergence.kl and divergence.estimator == "k1"):
            raise UserError(
                "a target adapts what a nat of divergence costs in the reward, and there it costs nothing",
                where=WHERE,
                allowed="target with kl above 0 and kl_estimator='k1'",
            )
        self.advantage: Advantage = registry.build("train.advantages", advantage, where=WHERE)
        if self.advantage.critic and critic is None:
            raise UserError(
                f"{advantage} needs a critic",
                where=WHERE,
                allowed="an advantage without one, or the objective ppo",
            )
        self.mean, self.clip, self.entropy, self.mask_cut = mean, clip, entropy, mask_cut
        self.resample = resample
        self.kl, self.estimator = divergence.kl, divergence.estimator
        self.target, self.horizon = divergence.target, divergence.horizon
        self.critic = critic if self.advantage.critic else None

    @property
    def compares(self) -> bool:
        """Whether the divergence from a reference is part of what is minimised."""
        return self.kl > 0

    @property
    def penalises(self) -> bool:
        """Whether it is part of the reward."""
        return self.compares and self.estimator == "k1"

    def higher_is_better(self, metric: str) -> bool:
        return metric.startswith("reward") or metric in ("ended", "greedy")

    def heads(self, config: Config, key: jax.Array) -> dict[str, Any]:
        """The critic's, which expects 0 before it has learned."""
        return {"w": jnp.zeros((config.model.width, 1)), "bias": jnp.zeros(1)} if self.critic else {}

    def arrays(self, rows: int, context: int) -> dict[str, tuple[tuple[int, ...], str]]:
        """The shape and type of each array of a batch."""
        own = [("reference", self.compares and not self.penalises), ("value", self.critic), ("returns", self.critic)]
        floats = ("weights", "old", "advantage", *(name for name, there in own if there))
        found = dict.fromkeys(("tokens", "targets"), ((rows, context), "int32"))
        return {**found, **dict.fromkeys(floats, ((rows, context), "float32")), "limit": ((rows,), "float32")}

    def values(self, forward: Forward, states_BTD: jax.Array) -> jax.Array:
        """What the critic expects before each target, float32 [B, T]."""
        w_D1 = forward.heads["w"]
        return (states_BTD.astype(w_D1.dtype) @ w_D1)[..., 0] + forward.heads["bias"]

    def count(self, batch: Batch) -> jax.Array:
        return batch["weights"].sum() if self.mean == "tokens" else _real(batch).sum()

    def coupled(self, forward: Forward, batch: Batch) -> Sums:
        """How many targets and rows the batch has, for the means that are reported."""
        return {"targets": batch["weights"].sum(), "rows": _real(batch).sum()}

    def sums(self, forward: Forward, batch: Batch) -> Sums:
        weights_BT = batch["weights"]
        batch = _cleared(batch)
        states_BTD = forward.states(batch)
        log_prob_BT, entropy_BT = forward.policy(batch, states_BTD)
        log_prob_BT = jnp.where(weights_BT > 0, log_prob_BT, 0)
        loss_BT, ratio_BT, clipped_BT = self.clip.losses(log_prob_BT, batch)
        policy_loss_BT, shown = loss_BT, {"entropy": entropy_BT, "ratio": ratio_BT}
        shown["clipped"] = clipped_BT.astype(loss_BT.dtype)
        if self.compares and not self.penalises:
            divergence_BT = ESTIMATORS[self.estimator](log_prob_BT - batch["reference"])
            loss_BT, shown["kl_loss"] = loss_BT + self.kl * divergence_BT, divergence_BT
        if self.entropy:
            loss_BT = loss_BT - self.entropy * entropy_BT
        if self.critic:
            shown["value_loss"] = self.critic.losses(self.values(forward, states_BTD), batch)
            loss_BT = loss_BT + shown["value_loss"]
        shown["moved"] = k3(batch["old"] - log_prob_BT)

        def total(value_BT, share_BT):
            return jnp.where(weights_BT > 0, value_BT * share_BT, 0).sum()

        share_BT = self._shares(batch)
        objective = total(loss_BT, share_BT)
        # Reported per target, whatever the loss is divided by.
        targets, rows = forward.coupled["targets"], forward.coupled["rows"]
        count = targets if self.mean == "tokens" else rows
        per_target_BT = weights_BT * (count / jnp.maximum(targets, 1))
        found = {"objective": objective, "loss": objective, "policy_loss": total(policy_loss_BT, share_BT)}
        return found | {name: total(value_BT, per_target_BT) for name, value_BT in shown.items()}

    def _shares(self, batch: Batch) -> jax.Array:
        """What a target's loss is multiplied by, before the sum is divided by ``count``."""
        weights_BT = batch["weights"]
        if self.mean == "sequences":
            return weights_BT / jnp.maximum(weights_BT.sum(1, keepdims=True), 1)
        return weights_BT / batch["limit"][:, None] if self.mean == "constant" else weights_BT


def _cleared(batch: Batch) -> Batch:
    """With 0 at targets that do not count: a derivative would be NaN where what stands there is infinite."""
    there_BT = batch["weights"] > 0
    return batch | {name: jnp.where(there_BT, batch[name], 0) for name in PER_TARGET if name in batch}


def _real(batch: Batch) -> jax.Array:
    """Whether a row counts, bool [B]."""
    return (batch["weights"] > 0).any(1)


def _check(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise UserError(f"{name} = {value!r}", where=WHERE, allowed=", ".join(allowed))
