"""Plain causal attention with a derivative of its own, in few blocks of queries, for XLA on CPUs."""

import functools
import math

import jax
import jax.numpy as jnp

from gpt_jax.limits import Rows
from gpt_jax.model.attend import Backend, wide
from gpt_jax.model.remat import with_scores
from gpt_jax.registry import register

MOST_BLOCKS = 4  # more are as fast, and take longer to compile


@register("model.attend", "causal", examples=("causal(rows=4)",))
def causal(*, rows: Rows = 64) -> Backend:
    """Every earlier token and nothing else, in up to four blocks of queries, each multiplied with the keys up to its end
    alone; the fastest on CPUs for short sequences.

    Its derivative keeps the weights P and has dS = P * (dP - rowsum(dO * O)) (Dao et al. 2022, appendix B.2). XLA's own
    writes the softmax's denominators at the size of the scores.

    Args:
      rows: the fewest queries of a block.
    """
    return Backend("causal", with_scores(functools.partial(_run, rows)), frozenset({"values"}), keeps_scores=True)


def _run(rows, spec, q_BNTH, k_BKSH, v_BKSJ, queries, keys, extras, drop):
    t = q_BNTH.shape[2]
    rows = math.ceil(t / max(1, min(MOST_BLOCKS, t // rows)))
    blocks = tuple((first, min(first + rows, t)) for first in range(0, t, rows))
    return _attend(spec.scale, blocks, q_BNTH, k_BKSH, v_BKSJ)


def _rows(x_BNTH, heads, first, end):
    """Queries of a block as [B, K, Q, H]: those of all heads of a group are rows of one product, Q = G times the block."""
    b, n, _, h = x_BNTH.shape
    return x_BNTH[:, :, first:end].reshape(b, heads, n // heads * (end - first), h)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _attend(scale, blocks, q_BNTH, k_BKTH, v_BKTJ):
    return _forward(scale, blocks, q_BNTH, k_BKTH, v_BKTJ)[0]


def _forward(scale, blocks, q_BNTH, k_BKTH, v_BKTJ):
    b, n, t, _ = q_BNTH.shape
    heads = k_BKTH.shape[1]
    y, weights = [], []
    for first, end in blocks:
        q_BKQH = _rows(q_BNTH * scale, heads, first, end)
        scores_BKQS = jnp.einsum("BKQH,BKSH->BKQS", q_BKQH, k_BKTH[:, :, :end]).astype(wide(q_BNTH.dtype))
        seen_QS = jnp.tile(jnp.arange(first, end)[:, None] >= jnp.arange(end), (n // heads, 1))
        scores_BKQS = jnp.where(seen_QS, scores_BKQS, jnp.finfo(scores_BKQS.dtype).min)
        weights.append(jax.nn.softmax(scores_BKQS).astype(v_BKTJ.dtype))
        y_BKQJ = jnp.einsum("BKQS,BKSJ->BKQJ", weights[-1], v_BKTJ[:, :, :end])
        y.append(y_BKQJ.reshape(b, n, end - first, -1))
    y_BNTJ = jnp.concatenate(y, axis=2)
    return y_BNTJ, (q_BNTH, k_BKTH, v_BKTJ, y_BNTJ, weights)


def _backward(scale, blocks, saved, dy_BNTJ):
    q_BNTH, k_BKTH, v_BKTJ, y_BNTJ, weights = saved
    b, n, t, h = q_BNTH.shape
    heads, accurate = k_BKTH.shape[1], wide(q_BNTH.dtype)
    delta_BNT1 = (dy_BNTJ.astype(accurate) * y_BNTJ).sum(-1, keepdims=True)
    dq, dk_BKTH, dv_BKTJ = [], jnp.zeros_like(k_BKTH), jnp.zeros_like(v_BKTJ)
    for (first, end), weights_BKQS in zip(blocks, weights, strict=True):
        dy_BKQJ, delta_BKQ1, q_BKQH = (_rows(a, heads, first, end) for a in (dy_BNTJ, delta_BNT1, q_BNTH))
        dweights_BKQS = jnp.einsum("BKQJ,BKSJ->BKQS", dy_BKQJ, v_BKTJ[:, :, :end])
        dscores_BKQS = (scale * weights_BKQS * (dweights_BKQS - delta_BKQ1)).astype(q_BNTH.dtype)
        dq.append(jnp.einsum("BKQS,BKSH->BKQH", dscores_BKQS, k_BKTH[:, :, :end]).reshape(b, n, end - first, h))
        dk_BKTH = dk_BKTH.at[:, :, :end].add(jnp.einsum("BKQS,BKQH->BKSH", dscores_BKQS, q_BKQH))
        dv_BKTJ = dv_BKTJ.at[:, :, :end].add(jnp.einsum("BKQS,BKQJ->BKSJ", weights_BKQS, dy_BKQJ))
    return jnp.concatenate(dq, axis=2), dk_BKTH, dv_BKTJ


_attend.defvjp(_forward, _backward)
