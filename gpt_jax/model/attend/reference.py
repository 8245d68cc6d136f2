"""Attention as formulas, a line each, in float32 or better. The other backends are tested against it."""

import contextlib
from collections.abc import Iterator

import jax
import jax.numpy as jnp

from gpt_jax.model.attend import Backend, wide
from gpt_jax.model.remat import with_scores
from gpt_jax.registry import register

_collections: list[list[jax.Array]] = []


@contextlib.contextmanager
def collecting_weights() -> Iterator[list[jax.Array]]:
    """Collects the softmax's weights, [B, N, T, S], of every call of this backend meanwhile, in order.

    Within ``jax.jit`` both this and what is done with the weights belong inside the traced function, of unrolled layers.
    """
    collected: list[jax.Array] = []
    _collections.append(collected)
    try:
        yield collected
    finally:
        _collections.pop()


@register("model.attend", "reference")
def reference() -> Backend:
    """Everything, slowly; in float64 where the model is."""
    return Backend("reference", with_scores(_run), keeps_scores=True)


def _run(spec, q_BNTH, k_BKSH, v_BKSJ, queries, keys, extras, drop):
    dtype = wide(q_BNTH.dtype)
    groups = q_BNTH.shape[1] // k_BKSH.shape[1]
    k_BNSH = jnp.repeat(k_BKSH, groups, axis=1).astype(dtype)
    v_BNSJ = jnp.repeat(v_BKSJ, groups, axis=1).astype(dtype)
    scores_BNTS = spec.scale * jnp.einsum("BNTH,BNSH->BNTS", q_BNTH.astype(dtype), k_BNSH, precision="highest")
    if spec.mixing:
        scores_BNTS = jnp.einsum("BNTS,NM->BMTS", scores_BNTS, extras.before_NM.astype(dtype), precision="highest")
    if spec.softcap:
        scores_BNTS = spec.softcap * jnp.tanh(scores_BNTS / spec.softcap)
    if spec.bias:
        scores_BNTS = scores_BNTS + extras.position.bias(queries, keys)
    visible_BNTS = spec.reach.visible(queries, keys)[:, None]
    largest_BNT1 = jnp.max(scores_BNTS, axis=-1, keepdims=True, where=visible_BNTS, initial=-1e30)
    exp_BNTS = jnp.where(visible_BNTS, jnp.exp(jnp.where(visible_BNTS, scores_BNTS - largest_BNT1, 0)), 0)
    total_BNT1 = exp_BNTS.sum(-1, keepdims=True)
    if spec.sink:
        total_BNT1 = total_BNT1 + jnp.exp(extras.sink_N[:, None, None].astype(dtype) - largest_BNT1)
    weights_BNTS = exp_BNTS / jnp.where(total_BNT1 > 0, total_BNT1, 1)
    if spec.mixing:
        weights_BNTS = jnp.einsum("BNTS,NM->BMTS", weights_BNTS, extras.after_NM.astype(dtype), precision="highest")
    for collected in _collections:
        collected.append(weights_BNTS)
    y_BNTJ = jnp.einsum("BNTS,BNSJ->BNTJ", drop(weights_BNTS), v_BNSJ, precision="highest")
    return y_BNTJ.astype(q_BNTH.dtype)
