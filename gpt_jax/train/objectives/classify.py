"""A class of a text, by a linear head on the state at its last token (Radford et al. 2018, section 3.2)."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gpt_jax.config import Config
from gpt_jax.data.forms.classes import CHOICE, CLASSIFICATION, KINDS, Classes
from gpt_jax.errors import UserError
from gpt_jax.limits import Factor
from gpt_jax.registry import register
from gpt_jax.train.objectives import Batch, Best, Forward, Objective, Sums

HEAD_SCALE = 0.02  # standard deviation of the head's initial weights


@register(
    "train.objectives",
    "classify",
    examples=(
        "classify(classes=3)",
        "classify(classes=3, kind='similarity', lm=0.0)",
        "classify(classes=4, kind='choice')",
    ),
)
class Classify(Objective):
    """mean CE + lm * mean over rows of the row's mean LM loss (equation 5).

    Args:
      classes: how many there are, or their names; of choices, the most options of a row.
      lm: weight of the language model's loss.
      kind: see ``data.forms.classes``. The states of the two orders of a similarity are added; of choices, the options'
        states share a head of one output.
    """

    best = Best("accuracy", highest=True)
    shown = {"loss": "nats/example", "accuracy": "accuracy", "macro_f1": "macro F1"}
    writes = False

    def __init__(self, *, classes: Classes, lm: Factor = 0.5, kind: str = CLASSIFICATION):
        if kind not in KINDS:
            raise UserError(f"kind = {kind!r}", where="config.tune.objective", allowed=", ".join(KINDS))
        self.names = classes if isinstance(classes, tuple) else tuple(map(str, range(classes)))
        if len(set(self.names)) < max(2, len(self.names)):
            raise UserError(
                f"classes = {classes!r}", where="config.tune.objective", allowed="two or more, all different"
            )
        self.form = f"classes(classes={classes!r}, kind={kind!r})"
        self.lm, self.choice = lm, kind == CHOICE

    def heads(self, config: Config, key: jax.Array) -> dict[str, Any]:
        outputs = 1 if self.choice else len(self.names)
        weights = {"w": HEAD_SCALE * jax.random.normal(key, (config.model.width, outputs))}
        return weights if self.choice else {**weights, "bias": jnp.zeros(outputs)}  # which no choice depends on

    def higher_is_better(self, metric: str) -> bool:
        return "loss" not in metric

    def count(self, batch: Batch) -> jax.Array:
        return _real(batch).sum()

    def sums(self, forward: Forward, batch: Batch) -> Sums:
        states_BOTD = forward.states(batch)
        real_B = _real(batch)
        loss = jnp.where(real_B, self._loss(self._logits(forward, states_BOTD, batch), batch), 0).sum()
        if not self.lm:
            return {"objective": loss, "loss": loss}
        lm_loss = _lm_loss(forward.log_probs(batch, states_BOTD), batch).sum()
        return {"objective": loss + self.lm * lm_loss, "loss": loss, "lm_loss": lm_loss}

    def evaluation(self, forward: Forward, batch: Batch) -> Sums:
        """As ``sums``, and "confusion" [C, C]: how many of a class (rows) are taken for another (columns)."""
        states_BOTD = forward.states(batch)
        logits_BC, real_B = self._logits(forward, states_BOTD, batch), _real(batch)
        confusion_CC = jnp.zeros((len(self.names),) * 2, jnp.int32)
        return {
            "count": real_B.sum(),
            "loss": jnp.where(real_B, self._loss(logits_BC, batch), 0).sum(),
            "lm_loss": _lm_loss(forward.log_probs(batch, states_BOTD), batch).sum(),
            "confusion": confusion_CC.at[batch["class"], logits_BC.argmax(-1)].add(real_B.astype(jnp.int32)),
        }

    def metrics(self, totals: dict[str, Any]) -> dict[str, float]:
        """{"loss" (nats per example, of the class), "lm_loss" (nats per token, a mean over rows), "accuracy"}, and, but of
        choices, precision, recall and F1 (``rates``)."""
        count = max(totals["count"], 1)
        values = {"loss": totals["loss"] / count, "lm_loss": totals["lm_loss"] / count}
        values["accuracy"] = float(np.trace(totals["confusion"])) / count
        return values if self.choice else values | rates(totals["confusion"], self.names)

    def probabilities(self, forward: Forward, batch: Batch) -> jax.Array:
        """Of the classes of texts, float32 [B, C]."""
        return jax.nn.softmax(self._logits(forward, forward.states(batch), batch))

    def _logits(self, forward: Forward, states_BOTD: jax.Array, batch: Batch) -> jax.Array:
        """Scores of the classes, [B, C]; the lowest number for options that a row lacks."""
        at_BO = batch["at"]
        state_BOD = jnp.take_along_axis(states_BOTD, at_BO.clip(0)[..., None, None], 2)[:, :, 0]
        w_DC = forward.heads["w"]
        state_BOD = forward.dropout(state_BOD, batch).astype(w_DC.dtype)
        if not self.choice:
            return state_BOD.sum(1) @ w_DC + forward.heads["bias"]
        return jnp.where(at_BO >= 0, (state_BOD @ w_DC)[..., 0], jnp.finfo(w_DC.dtype).min / 2)

    @staticmethod
    def _loss(logits_BC: jax.Array, batch: Batch) -> jax.Array:
        log_probs_BC = jax.nn.log_softmax(logits_BC)
        return -jnp.take_along_axis(log_probs_BC, batch["class"][:, None], 1)[:, 0]


def _real(batch: Batch) -> jax.Array:
    """Whether a row is no filling, bool [B]."""
    return (batch["weights"] > 0).any((1, 2))


def _lm_loss(log_probs_BOT: jax.Array, batch: Batch) -> jax.Array:
    """The mean over a row's orders or options of their mean loss per token, [B]."""
    weights_BOT = batch["weights"]
    count_BO = weights_BOT.sum(-1)
    mean_BO = -(weights_BOT * log_probs_BOT).sum(-1) / jnp.maximum(count_BO, 1)
    return mean_BO.sum(-1) / jnp.maximum((count_BO > 0).sum(-1), 1)


def rates(confusion_CC: np.ndarray, names: Sequence[str]) -> dict[str, float]:
    """Precision, recall and F1: "macro_…", the mean over all classes, also those that do not occur; "micro_…", over all
    decisions, which is the accuracy; "precision/NAME" … of each class. 0 where there is nothing to divide by."""
    confusion_CC = np.asarray(confusion_CC, np.float64)
    right_C, true_C, said_C = np.diag(confusion_CC), confusion_CC.sum(1), confusion_CC.sum(0)
    by_class = {
        "precision": right_C / np.maximum(said_C, 1),
        "recall": right_C / np.maximum(true_C, 1),
        "f1": 2 * right_C / np.maximum(true_C + said_C, 1),
    }
    micro = float(right_C.sum() / max(confusion_CC.sum(), 1))
    found = {f"macro_{rate}": float(values_C.mean()) for rate, values_C in by_class.items()}
    found |= {f"micro_{rate}": micro for rate in by_class}
    each = {f"{rate}/{name}": values_C[c] for rate, values_C in by_class.items() for c, name in enumerate(names)}
    return found | {name: float(value) for name, value in each.items()}
