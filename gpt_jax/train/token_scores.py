"""What the model makes of each target by itself, over logits that need not exist all at once."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from gpt_jax.model.readout import Projection, logits_of
from gpt_jax.train.losses import at_target, chunk_length, logits_at_once, pieces

Score = Callable[[jax.Array, jax.Array], Any]  # (logits_BTV, targets_BT) -> [B, T], or a tree of them


def log_probs(logits_BTV: jax.Array, targets_BT: jax.Array) -> jax.Array:
    """log p(target), float32 [B, T]."""
    return at_target(logits_BTV, targets_BT) - jax.nn.logsumexp(logits_BTV, axis=-1)


def hits(logits_BTV: jax.Array, targets_BT: jax.Array) -> jax.Array:
    """Whether the target is the likeliest token (the first of several that are alike), bool [B, T]."""
    return jnp.argmax(logits_BTV, axis=-1) == targets_BT


def policy(logits_BTV: jax.Array, targets_BT: jax.Array, temperature: float) -> tuple[jax.Array, jax.Array]:
    """log p(target) and the entropy (nats) of what is drawn at a temperature, float32 [B, T]."""
    scaled_BTV = logits_BTV / temperature
    log_z_BT = jax.nn.logsumexp(scaled_BTV, axis=-1)
    mean_BT = (jnp.exp(scaled_BTV - log_z_BT[..., None]) * scaled_BTV).sum(-1)
    return at_target(scaled_BTV, targets_BT) - log_z_BT, log_z_BT - mean_BT


def over_logits(
    score: Score, x_BTD: jax.Array, projection: Projection, targets_BT: jax.Array, *, chunk: int, shards: int
) -> Any:
    """``score`` of every target, [B, T]; the backward pass makes the logits of a chunk again.

    Args:
      chunk, shards: see ``losses.cross_entropy``.
    """
    length = chunk_length(targets_BT.shape, projection, chunk, shards)
    return _in_chunks(score, (x_BTD,), (projection,), targets_BT, length)


def over_both(
    score: Callable,
    states: tuple[jax.Array, jax.Array],
    projections: tuple[Projection, Projection],
    targets_BT: jax.Array,
    *,
    chunk: int,
    shards: int,
) -> Any:
    """``score(logits_BTV, other_BTV, targets_BT)`` of two models' last states: a tree of arrays [B, T].

    The backward pass makes the logits of a chunk again, so that two sets of them never exist as a whole, but where both
    together are few.
    """
    most = chunk or max(1, logits_at_once() // sum(projection.w_DV.shape[1] for projection in projections))
    return _in_chunks(
        score, states, projections, targets_BT, chunk_length(targets_BT.shape, projections[0], most, shards)
    )


def _in_chunks(
    score: Callable,
    states: tuple[jax.Array, ...],
    projections: tuple[Projection, ...],
    targets_BT: jax.Array,
    length: int,
) -> Any:
    """``score`` of the logits of each model and the targets, ``length`` positions at a time; 0 = all at once."""

    def one(part):
        *states, targets = part
        return score(*map(logits_of, states, projections), targets)

    if not length:
        return one((*states, targets_BT))
    again = functools.partial(jax.checkpoint, policy=jax.checkpoint_policies.nothing_saveable)
    found = jax.lax.map(again(one), pieces(length, *states, targets_BT))
    rows, context = targets_BT.shape
    return jax.tree.map(lambda found_NBt: found_NBt.swapaxes(0, 1).reshape(rows, -1)[:, :context], found)
