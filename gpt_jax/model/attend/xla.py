"""Attention as two products of matrices around a softmax, for XLA to compile."""

import jax
import jax.numpy as jnp

from gpt_jax.model.attend import Backend, capped, wide
from gpt_jax.model.remat import with_scores
from gpt_jax.registry import register


@register("model.attend", "xla")
def xla() -> Backend:
    """Everything, with a [B, N, T, S] matrix of scores in memory; the fastest on CPUs for short sequences."""
    return Backend("xla", with_scores(_run), keeps_scores=True)


def _run(spec, q_BNTH, k_BKSH, v_BKSJ, queries, keys, extras, drop):
    """The queries of a group are rows (Q = G T) of one product: an axis G of size 1 would make XLA's CPU backend
    transpose the whole cache when T = 1. A query that sees no key (padding) gets the mean of all values."""
    b, n, t, h = q_BNTH.shape
    k, s = k_BKSH.shape[1:3]
    q_BKQH = (q_BNTH * spec.scale).reshape(b, k, n // k * t, h)
    scores_BKQS = jnp.einsum("BKQH,BKSH->BKQS", q_BKQH, k_BKSH).astype(wide(q_BNTH.dtype))
    weights_BNTS = drop(_weights(spec, scores_BKQS.reshape(b, n, t, s), queries, keys, extras).astype(v_BKSJ.dtype))
    weights_BKQS = weights_BNTS.reshape(b, k, n // k * t, s)
    return jnp.einsum("BKQS,BKSJ->BKQJ", weights_BKQS, v_BKSJ).reshape(b, n, t, v_BKSJ.shape[-1])


def _weights(spec, scores_BNTS, queries, keys, extras):
    if spec.mixing:
        scores_BNTS = jnp.einsum("BNTS,NM->BMTS", scores_BNTS, extras.before_NM.astype(scores_BNTS.dtype))
    scores_BNTS = capped(scores_BNTS, spec.softcap)
    if spec.bias:
        scores_BNTS += extras.position.bias(queries, keys)
    hidden = jnp.finfo(scores_BNTS.dtype).min
    scores_BNTS = jnp.where(spec.reach.visible(queries, keys)[:, None], scores_BNTS, hidden)
    if spec.sink:
        sink_BNT1 = jnp.broadcast_to(extras.sink_N[:, None, None], (*scores_BNTS.shape[:3], 1)).astype(
            scores_BNTS.dtype
        )
        weights_BNTS = jax.nn.softmax(jnp.concatenate([scores_BNTS, sink_BNT1], axis=-1))[..., :-1]
    else:
        weights_BNTS = jax.nn.softmax(scores_BNTS)
    if spec.mixing:
        return jnp.einsum("BNTS,NM->BMTS", weights_BNTS, extras.after_NM.astype(weights_BNTS.dtype))
    return weights_BNTS
