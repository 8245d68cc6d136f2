"""What training minimises: one file per objective, each a sum over rows divided by one number that is known beforehand.

Whatever couples rows is no part of a loss: it is data, or computed once for the whole batch without a gradient
(``Objective.coupled``). So an objective is the same in micro-batches, on several devices, and in any order of rows.

A batch has a leading axis of rows B; the arrays of its form are:

    text      tokens, targets [B, T] int32 and weights [B, T]: which targets count; segments and positions [B, T] where
              several examples share a row, and examples [B]: how many
    pairs     the same, [B, 2, T]: the chosen completion, then the rejected one; reference [B, 2]; with ``ends=True`` the
              token that ends a completion is read too, and margin [B] is by how much the chosen one is better
    labelled  the same, [B, 2, T]: the row's own completion, then another row's after the same prompt; label [B], 1 wanted
              or 0 not; reference [B, 2]
    classes   the same, [B, O, T]: the orders or options that a row is read in; at [B, O], the place of the token whose state
              the head reads, -1 of an option that a row lacks; class [B]
    prompts   what the policy wrote: see ``objectives.policy``

where ``reference`` holds the log-probabilities of the completions (sums over counted targets) under the model of
``tune.reference``. A row whose weights are all 0 is filling, and changes nothing.
"""

import abc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import jax

from gpt_jax.config import Config

Batch = dict[str, jax.Array]
Sums = dict[str, jax.Array]


class Forward(Protocol):
    """What an objective computes with: the model, with this step's parameters.

    Attributes:
      heads: the objective's own parameters.
      coupled: what ``Objective.coupled`` gave, summed over the whole batch; {} where it gives nothing.
      byte_lengths_V: of token ids, in evaluation alone.
    """

    heads: dict[str, Any]
    coupled: Sums
    byte_lengths_V: jax.Array | None

    def cross_entropy(self, batch: Batch) -> Sums:
        """``losses.cross_entropy`` of rows of text."""
        ...

    def log_probs(self, batch: Batch, states: jax.Array | None = None) -> jax.Array:
        """log p(target) of every token, float32 [..., T], whatever axes come before T.

        Args:
          states: of the batch, where they are known, so that there is one pass of the model.
        """
        ...

    def policy(self, batch: Batch, states: jax.Array) -> tuple[jax.Array, jax.Array]:
        """log p(target), and the entropy of the distribution that it was drawn from, of logits that are divided by the
        temperature of ``config.sample``; float32 [B, T].

        Args:
          states: of the batch.
        """
        ...

    def hits(self, batch: Batch) -> jax.Array:
        """Whether the target is the likeliest token, bool [..., T]."""
        ...

    def states(self, batch: Batch) -> jax.Array:
        """The normalised last state of the residual stream, [..., T, D]."""
        ...

    def dropout(self, x: jax.Array, batch: Batch) -> jax.Array:
        """[B, …, D] with the model's dropout in training; the rows of an example share a mask."""
        ...

    def beside(self, score: Callable, batch: Batch, name: str) -> Any:
        """``score(logits_BTV, other_BTV, targets_BT, ids)`` of rows of text: arrays [B, T] from the logits of the model and
        of the fixed model of this name, which has no gradient.

        ``ids`` of the vocabularies of both are tokens; what comes after them is filling. Neither set of logits need exist
        all at once.
        """
        ...


@dataclass(frozen=True)
class Best:
    """The metric of evaluation that says which checkpoint is the best one."""

    metric: str
    highest: bool = False

    def as_loss(self, values: dict[str, float]) -> float:
        """The metric, negative where the highest is the best: the lowest is the best."""
        return -values[self.metric] if self.highest else values[self.metric]


class Objective(abc.ABC):
    """See the module.

    Attributes:
      form: of the batches, a call of one in ``gpt_jax/data/forms``.
      best: what evaluation says of checkpoints.
      shown: the metrics that are printed after an evaluation, with their units.
      reference: whether batches have ``reference``.
      dropout: whether the model may have some; not where log-probabilities of the policy and the reference are compared.
      z_loss: whether ``train.z_loss`` is part of it, as it is of ``Forward.cross_entropy``.
      begins: whether a run is evaluated before its first update.
      writes: whether what is trained writes text; where it does not, no samples are shown.
      teacher: the model that steps read as ``fixed["teacher"]``, named as ``tune.start`` is; empty = none.
    """

    form: str = "text"
    best: ClassVar[Best] = Best("loss")
    shown: ClassVar[dict[str, str]] = {"loss": ""}
    reference: ClassVar[bool] = False
    dropout: ClassVar[bool] = True
    z_loss: ClassVar[bool] = False
    begins: ClassVar[bool] = False
    writes: ClassVar[bool] = True
    teacher: str = ""

    def higher_is_better(self, metric: str) -> bool:
        """Of a metric of evaluation, by its name without valid/."""
        return False

    def heads(self, config: Config, key: jax.Array) -> dict[str, Any]:
        """Parameters of its own, before the first update; {} for none."""
        return {}

    @abc.abstractmethod
    def count(self, batch: Batch) -> jax.Array:
        """What the sums over these rows are divided by, once they are added up over the batch: tokens, pairs, rows."""

    def coupled(self, forward: Forward, batch: Batch) -> Sums:
        """Sums over these rows of what couples rows; it is given no gradient."""
        return {}

    @abc.abstractmethod
    def sums(self, forward: Forward, batch: Batch) -> Sums:
        """Sums over rows: "objective", which is differentiated, "loss", and whatever else is reported as a mean."""

    def reported(self, means: dict[str, float]) -> dict[str, float]:
        """From the means of a step's metrics over steps, ``sums`` among them, to what is reported as train/…."""
        return means

    def evaluation(self, forward: Forward, batch: Batch) -> Sums:
        """Sums over rows for ``metrics``, of any shapes, with "count"."""
        sums = {name: value for name, value in self.sums(forward, batch).items() if name != "objective"}
        return {**sums, "count": self.count(batch)}

    def metrics(self, totals: dict[str, Any]) -> dict[str, float]:
        """From the sums of ``evaluation`` over all batches to what is reported as valid/…: with "loss" and the metric of
        ``best``."""
        count = max(totals["count"], 1)
        return {name: value / count for name, value in totals.items() if name != "count"}
