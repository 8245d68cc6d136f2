"""The forward pass that objectives compute with (``objectives.Forward``), and how parameters become a model."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from gpt_jax.config import Config, ModelConfig
from gpt_jax.mesh.spread import BatchSplit
from gpt_jax.model import gpt, where
from gpt_jax.train import losses, token_scores
from gpt_jax.train.adapters import Adapter
from gpt_jax.train.objectives import Batch, Objective, Sums

HEADS = "heads"  # of the trained parameters: the objective's own, beside the model's or the adapter's
HEADS_LAYER = 2**31 - 2  # a "layer" of its own, for the keys of dropout before an objective's head
TOKEN_ARRAYS = ("tokens", "targets", "weights", "segments", "positions")


@dataclass(frozen=True)
class Recipe:
    """What a step is compiled from: settings, the model's code, what is minimised and what is trained, and how a mesh splits
    a batch."""

    config: Config
    graphdef: nnx.GraphDef
    objective: Objective
    adapter: Adapter
    split: BatchSplit


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class FixedModel:
    """A model that steps read and do not train: live parameters, what it is, and of how many ids the meaning is known."""

    params: dict
    model: ModelConfig = field(metadata={"static": True})
    ids: int = field(metadata={"static": True})


def whole(recipe: Recipe, trained: dict, fixed: dict) -> dict:
    """The model's parameters: those that are trained, or what the adapter makes of the fixed ones.

    Args:
      fixed: "base" where there is an adapter.
    """
    own = {name: tree for name, tree in trained.items() if name != HEADS}
    if recipe.adapter.alone:
        return own
    return recipe.adapter.apply(fixed["base"], own)


@dataclass
class ModelForward:
    """See ``objectives.Forward``. ``report``: what the layers said of themselves in the last pass."""

    recipe: Recipe
    model: Any
    heads: dict[str, Any]
    fixed: dict[str, Any]
    coupled: Sums = field(default_factory=dict)
    byte_lengths_V: jax.Array | None = None
    report: dict = field(default_factory=dict)

    @staticmethod
    def of(recipe: Recipe, trained: dict, fixed: dict, coupled: Sums | None = None) -> "ModelForward":
        params = recipe.split.filled(whole(recipe, trained, fixed), recipe.config.model.vocab)
        model = nnx.merge(recipe.graphdef, params)
        heads = trained[HEADS] if HEADS in trained else {}
        return ModelForward(recipe, model, heads, fixed, coupled or {})

    def cross_entropy(self, batch: Batch) -> Sums:
        rows, _ = _flat(batch)
        settings, split = self.recipe.config.train, self.recipe.split
        x_XtD, targets_Xt, weights_Xt = map(split.by_device, (self._hidden(rows), rows["targets"], rows["weights"]))
        return losses.cross_entropy(
            x_XtD,
            self.model.projection(),
            targets_Xt,
            weights_Xt,
            z_loss=settings.z_loss,
            chunk=settings.loss_chunk,
            shards=split.pieces(*rows["targets"].shape),
        )

    def log_probs(self, batch: Batch, states: jax.Array | None = None) -> jax.Array:
        return self._scores(token_scores.log_probs, batch, states)

    def policy(self, batch: Batch, states: jax.Array) -> tuple[jax.Array, jax.Array]:
        temperature = self.recipe.config.sample.temperature
        return self._scores(functools.partial(token_scores.policy, temperature=temperature), batch, states)

    def hits(self, batch: Batch) -> jax.Array:
        return self._scores(token_scores.hits, batch)

    def states(self, batch: Batch) -> jax.Array:
        rows, leading = _flat(batch)
        x_BTD = self._hidden(rows)
        return x_BTD.reshape(*leading, *x_BTD.shape[1:])

    def dropout(self, x: jax.Array, batch: Batch) -> jax.Array:
        if "keys" not in batch:
            return x
        keys_B = jax.vmap(jax.random.fold_in, (0, None))(batch["keys"], HEADS_LAYER)
        ones_BD = jnp.ones((len(x), x.shape[-1]), x.dtype)
        mask_BD = where.dropout(ones_BD, self.recipe.config.model.dropout, keys_B, 0)
        return x * mask_BD.reshape(len(x), *(1 for _ in x.shape[2:]), -1)

    def beside(self, score: Callable, batch: Batch, name: str) -> Any:
        fixed: FixedModel = jax.tree.map(jax.lax.stop_gradient, self.fixed[name])
        x_BTD, split = self._hidden(batch), self.recipe.split
        other = nnx.merge(gpt.graphdef(fixed.model), split.filled(fixed.params, fixed.model.vocab))
        parts = (batch.get(part) for part in ("positions", "segments"))
        y_BTD, _ = other.hidden(batch["tokens"], *parts, None, split.place, split.spread)
        found = token_scores.over_both(
            functools.partial(score, ids=fixed.ids),
            (split.by_device(x_BTD), split.by_device(y_BTD)),
            (self.model.projection(), other.projection()),
            split.by_device(batch["targets"]),
            chunk=self.recipe.config.train.loss_chunk,
            shards=split.pieces(*x_BTD.shape[:2]),
        )
        return jax.tree.map(functools.partial(split.whole_rows, rows=len(x_BTD)), found)

    def _scores(self, score: token_scores.Score, batch: Batch, states: jax.Array | None = None) -> Any:
        rows, leading = _flat(batch)
        chunk, split = self.recipe.config.train.loss_chunk, self.recipe.split
        x_BTD = self._hidden(rows) if states is None else states.reshape(-1, *states.shape[-2:])
        found = token_scores.over_logits(
            score,
            split.by_device(x_BTD),
            self.model.projection(),
            split.by_device(rows["targets"]),
            chunk=chunk,
            shards=split.pieces(*x_BTD.shape[:2]),
        )
        return jax.tree.map(lambda found_Xt: split.whole_rows(found_Xt, len(x_BTD)).reshape(*leading, -1), found)

    def _hidden(self, rows: Batch) -> jax.Array:
        parts = (rows.get(name) for name in ("positions", "segments", "keys"))
        split = self.recipe.split
        x_BTD, self.report = self.model.hidden(rows["tokens"], *parts, split.place, split.spread)
        return x_BTD


def _flat(batch: Batch) -> tuple[Batch, tuple[int, ...]]:
    """The rows of a batch one after another, [B, …], and the axes they had before T. Rows of an example share its dropout
    key."""
    *leading, context = batch["tokens"].shape
    if len(leading) == 1:
        return batch, tuple(leading)
    rows = {name: batch[name].reshape(-1, context) for name in TOKEN_ARRAYS if name in batch}
    if "keys" in batch:
        rows["keys"] = jnp.repeat(batch["keys"], leading[1])
    return rows, tuple(leading)
