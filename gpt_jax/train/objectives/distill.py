"""Distillation: the distribution of a teacher at every token (Hinton et al. 2015; Agarwal et al. 2024, GKD)."""

from typing import Any

import jax
import jax.numpy as jnp

from gpt_jax.limits import Positive, Share
from gpt_jax.registry import register
from gpt_jax.train import token_scores
from gpt_jax.train.objectives import Batch, Best, Forward, Objective, Sums
from gpt_jax.train.objectives.lm import bytes_of, per_token

TEACHER = "teacher"


@register("train.objectives", "distill", typical="distill(teacher='runs/big')")
class Distill(Objective):
    """mean over tokens of alpha * temperature^2 * D(teacher, student) + (1 - alpha) * cross-entropy.

    The temperature divides the logits of both. "loss" is the cross-entropy, as of other language models.

    Args:
      teacher: a run, with a step or without (runs/big@500), or a Hugging Face directory. Its token ids mean the same.
      beta: D is KL(teacher || student) at 0, KL(student || teacher) at 1, and between them the Jensen-Shannon divergence
        beta KL(teacher || M) + (1 - beta) KL(student || M), M = beta teacher + (1 - beta) student (GKD, equation 1).
      alpha: the teacher's share.
    """

    best = Best("objective")
    shown = {"loss": "nats/token", "divergence": "nats/token from the teacher", "bits_per_byte": "bits/byte"}

    def __init__(self, *, teacher: str, temperature: Positive = 1.0, beta: Share = 0.0, alpha: Share = 1.0):
        self.teacher, self.temperature, self.beta, self.alpha = teacher, temperature, beta, alpha

    def count(self, batch: Batch) -> jax.Array:
        return batch["weights"].sum()

    def sums(self, forward: Forward, batch: Batch) -> Sums:
        found = forward.beside(self._scores, batch, TEACHER)
        divergence, loss = ((batch["weights"] * value_BT).sum() for value_BT in found)
        objective = self.alpha * self.temperature**2 * divergence + (1 - self.alpha) * loss
        return {"objective": objective, "loss": loss, "divergence": divergence}

    def evaluation(self, forward: Forward, batch: Batch) -> Sums:
        return {**self.sums(forward, batch), "tokens": self.count(batch), "bytes": bytes_of(forward, batch)}

    def metrics(self, totals: dict[str, Any]) -> dict[str, float]:
        """As of a language model, with "divergence" and "objective" (nats per token)."""
        count = max(totals["tokens"], 1)
        return per_token(totals) | {name: totals[name] / count for name in ("divergence", "objective")}

    def _scores(self, logits_BTV: jax.Array, teacher_BTV: jax.Array, targets_BT: jax.Array, ids: int):
        teacher_BTV, student_BTV = teacher_BTV[..., :ids], logits_BTV[..., :ids]
        apart_BT = divergence(student_BTV / self.temperature, teacher_BTV / self.temperature, self.beta)
        return apart_BT, -token_scores.log_probs(logits_BTV, targets_BT)


def divergence(student_BTV: jax.Array, teacher_BTV: jax.Array, beta: float) -> jax.Array:
    """D of ``Distill`` at every token, nats [B, T], of logits."""
    student_BTV, teacher_BTV = jax.nn.log_softmax(student_BTV), jax.nn.log_softmax(teacher_BTV)
    if beta in (0, 1):
        return _kl(teacher_BTV, student_BTV) if beta == 0 else _kl(student_BTV, teacher_BTV)
    mixture_BTV = jnp.logaddexp(student_BTV + jnp.log1p(-beta), teacher_BTV + jnp.log(beta))
    return beta * _kl(teacher_BTV, mixture_BTV) + (1 - beta) * _kl(student_BTV, mixture_BTV)


def _kl(p_BTV: jax.Array, q_BTV: jax.Array) -> jax.Array:
    """KL(p || q) of log-probabilities, [B, T]."""
    return (jnp.exp(p_BTV) * (p_BTV - q_BTV)).sum(-1)
