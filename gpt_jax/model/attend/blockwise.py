"""Attention block by block, with a running softmax: memory grows with the length, not with its square."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from gpt_jax.errors import UserError
from gpt_jax.limits import Rows
from gpt_jax.model.attend import EVERYTHING, Backend, capped, wide
from gpt_jax.model.remat import CORE
from gpt_jax.registry import register

HIDDEN = -1e30  # a score that is not seen; finite, so that differences of two are not nan


@register("model.attend", "blockwise", examples=("blockwise(block=4)",), formerly=("chunked",))
def blockwise(*, block: Rows = 512) -> Backend:
    """Blockwise attention in memory linear in the length (Milakov & Gimelshein 2018; Rabe & Staats 2021; Liu & Abbeel
    2023), with a backward pass that recomputes scores (Dao et al. 2022, algorithm 4). Blocks of keys that a window or a
    chunk hides are skipped. Everything but a reach of its own, mixing across heads and dropout.

    Args:
      block: queries, and keys, whose scores exist at once.
    """
    if block < 1:
        raise UserError(f"blockwise(block={block})", where="config.model.attend", allowed="1 or more")
    return Backend("blockwise", functools.partial(_run, block), EVERYTHING - {"reach", "mixing", "dropout"})


def _run(block, spec, q_BNTH, k_BKSH, v_BKSJ, queries, keys, extras, drop):
    b, n, t, _ = q_BNTH.shape
    cached = keys.valid_BT is not None
    sizes, q, k, v, queries, keys = laid_out(block, q_BNTH, k_BKSH, v_BKSJ, queries, keys)
    blocks = _every(sizes, q, k) if cached else reachable(spec, sizes, queries, keys)
    sink = None if extras.sink_N is None else extras.sink_N.reshape(q.shape[1:3])
    y = _attend(spec, sizes, blocks, queries, keys, q, k, v, sink, extras.position)
    return y[:, :, :, :t].reshape(b, n, t, -1)


def laid_out(block, q_BNTH, k_BKSH, v_BKSJ, queries, keys):
    """The sizes of blocks of queries and of keys; q [B, K, G, T, H], k, v and the tokens, filled up to whole blocks."""
    b, n, t, h = q_BNTH.shape
    k = k_BKSH.shape[1]
    sizes = min(block, t), min(block, k_BKSH.shape[2])
    q = _pad(q_BNTH.reshape(b, k, n // k, t, h), sizes[0], 3)
    k_, v = (_pad(a, sizes[1], 2) for a in (k_BKSH, v_BKSJ))
    queries = jax.tree.map(lambda a: _pad(a, sizes[0], a.ndim - 1), queries)
    real_BS = jnp.ones((1, k_BKSH.shape[2]), bool) if keys.valid_BT is None else keys.valid_BT
    keys = jax.tree.map(lambda a: _pad(a, sizes[1], a.ndim - 1), keys)
    return sizes, q, k_, v, queries, dataclasses.replace(keys, valid_BT=_pad(real_BS, sizes[1], 1))


def _pad(a, size, axis):
    fill = -a.shape[axis] % size
    return jnp.pad(a, [(0, fill if i == axis else 0) for i in range(a.ndim)]) if fill else a


def _scores(spec, queries, keys, q_BKGTH, k_BKSH, position):
    """One block's scores, and which of them are seen. Differentiable in q, k and the position's parameters."""
    scores = jnp.einsum("BKGTH,BKSH->BKGTS", q_BKGTH * spec.scale, k_BKSH, preferred_element_type=wide(q_BKGTH.dtype))
    scores = capped(scores, spec.softcap)
    if spec.bias:
        bias_BNTS = position.bias(queries, keys)
        heads = scores.shape[1:3] if bias_BNTS.shape[1] > 1 else (1, 1)
        scores += bias_BNTS.reshape(bias_BNTS.shape[0], *heads, *bias_BNTS.shape[2:])
    return scores, spec.reach.visible(queries, keys)[:, None, None]


def _every(sizes, q, k):
    """What ``reachable`` says of a cache, which may hold its tokens in any order."""
    count_t, count_s = q.shape[3] // sizes[0], k.shape[2] // sizes[1]
    return jnp.zeros(count_t, jnp.int32), jnp.full(count_t, count_s, jnp.int32)


def reachable(spec, sizes, queries, keys):
    """Per block of queries, the first and one past the last block of keys that it may see, by order and window alone.

    Positions of a row rise with its order wherever they are seen, so the distance in order bounds that in positions. Order
    rises along the keys, and may leave tokens out.
    """
    size_t, size_s = sizes
    order_q, order_k = queries.order_BT.reshape(-1, size_t), keys.order_BT.reshape(-1, size_s)
    last = jnp.sum(order_k[:, 0] <= order_q.max(1)[:, None], axis=1)
    width = spec.reach.window or spec.reach.chunk
    if not width:
        return jnp.zeros_like(last), last
    oldest = order_q[:, 0] - width + 1
    return jnp.sum(order_k.max(1) < oldest[:, None], axis=1), last


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _attend(spec, sizes, blocks, queries, keys, q, k, v, sink, position):
    return _forward(spec, sizes, blocks, queries, keys, q, k, v, sink, position)[0]


def _forward(spec, sizes, blocks, queries, keys, q, k, v, sink, position):
    found = forward(spec, sizes, blocks, queries, keys, q, k, v, sink, position, q.dtype)
    y, logz = (checkpoint_name(a, CORE) for a in found)
    return y, (blocks, queries, keys, q, k, v, sink, position, y, logz)


def forward(spec, sizes, blocks, queries, keys, q, k, v, sink, position, y_dtype):
    """y [B, K, G, T, J], and the logarithms of the softmaxes' denominators, [B, K, G, T]."""
    size_t, size_s = sizes
    count_t = q.shape[3] // size_t
    first, last = blocks
    dtype = wide(q.dtype)

    def row(i):
        q_i, queries_i = _take(q, i, size_t, 3), queries.take(i * size_t, size_t)

        def add(j, carry):
            top, total, y = carry
            keys_j = keys.take(j * size_s, size_s)
            scores, seen = _scores(spec, queries_i, keys_j, q_i, _take(k, j, size_s, 2), position)
            scores = jnp.where(seen, scores, HIDDEN)
            new_top = jnp.maximum(top, scores.max(-1))
            p = jnp.where(seen, jnp.exp(scores - new_top[..., None]), 0)
            shrink = jnp.exp(top - new_top)
            part = jnp.einsum("BKGTS,BKSJ->BKGTJ", p.astype(v.dtype), _take(v, j, size_s, 2)).astype(dtype)
            return new_top, total * shrink + p.sum(-1), y * shrink[..., None] + part

        shape = q_i.shape[:4]
        if sink is None:
            top, total = jnp.full(shape, HIDDEN, dtype), jnp.zeros(shape, dtype)
        else:
            top, total = jnp.broadcast_to(sink[..., None].astype(dtype), shape), jnp.ones(shape, dtype)
        y = jnp.zeros((*shape, v.shape[-1]), dtype)
        top, total, y = jax.lax.fori_loop(first[i], last[i], add, (top, total, y))
        total = jnp.where(total > 0, total, 1)
        return (y / total[..., None]).astype(y_dtype), top + jnp.log(total)

    y, logz = jax.lax.map(row, jnp.arange(count_t))
    return _join(y), _join(logz)


def _backward(spec, sizes, saved, dy):
    blocks, queries, keys, q, k, v, sink, position, y, logz = saved
    mean = mean_of(dy, y)
    found = backward(spec, sizes, blocks, queries, keys, q, k, v, position, logz, mean, dy)
    dq, dk, dv = (d.astype(a.dtype) for d, a in zip(found[:3], (q, k, v), strict=True))
    return None, None, None, dq, dk, dv, sink_gradient(sink, logz, mean), found[3]


def mean_of(dy, y):
    """sum of dy y, [B, K, G, T]: the mean of a softmax's derivatives, by its weights."""
    dtype = wide(y.dtype)
    return (dy.astype(dtype) * y.astype(dtype)).sum(-1)


def sink_gradient(sink, logz, mean):
    if sink is None:
        return None
    return -(jnp.exp(sink[..., None].astype(logz.dtype) - logz) * mean).sum((0, 3)).astype(sink.dtype)


def backward(spec, sizes, blocks, queries, keys, q, k, v, position, logz, mean, dy):
    """dS = P (dP - mean), block by block, and through the scores to what made them: dq, dk and dv in float32 or better, and
    the gradient of the position's parameters.

    Args:
      logz: of the whole softmax, of which these keys may be a part.
    """
    first, last = blocks
    size_t, size_s = sizes
    count_t = q.shape[3] // size_t
    dtype = wide(q.dtype)

    def row(carry, i):
        dk, dv, d_position = carry
        q_i, queries_i = _take(q, i, size_t, 3), queries.take(i * size_t, size_t)
        dy_i, logz_i, mean_i = (_take(a, i, size_t, 3) for a in (dy, logz, mean))

        def add(j, inner):
            dq_i, dk, dv, d_position = inner
            keys_j, v_j = keys.take(j * size_s, size_s), _take(v, j, size_s, 2)

            def scores_of(q_i, k_j, position):
                return _scores(spec, queries_i, keys_j, q_i, k_j, position)

            scores, back, seen = jax.vjp(scores_of, q_i, _take(k, j, size_s, 2), position, has_aux=True)
            p = jnp.where(seen, jnp.exp(scores - logz_i[..., None]), 0)
            dp = jnp.einsum("BKGTJ,BKSJ->BKGTS", dy_i, v_j, preferred_element_type=dtype)
            dq, dk_j, d_position_j = back((p * (dp - mean_i[..., None])).astype(scores.dtype))
            dv_j = jnp.einsum("BKGTS,BKGTJ->BKSJ", p.astype(dy_i.dtype), dy_i, preferred_element_type=dtype)
            dk, dv = _add_at(dk, dk_j, j, size_s), _add_at(dv, dv_j, j, size_s)
            return dq_i + dq.astype(dtype), dk, dv, jax.tree.map(jnp.add, d_position, d_position_j)

        start = (jnp.zeros(q_i.shape, dtype), dk, dv, d_position)
        dq_i, dk, dv, d_position = jax.lax.fori_loop(first[i], last[i], add, start)
        return (dk, dv, d_position), dq_i

    zeros = (jnp.zeros(k.shape, dtype), jnp.zeros(v.shape, dtype), jax.tree.map(jnp.zeros_like, position))
    (dk, dv, d_position), dq = jax.lax.scan(row, zeros, jnp.arange(count_t))
    return _join(dq), dk, dv, d_position


_attend.defvjp(_forward, _backward)


def _take(a, i, size, axis):
    return jax.lax.dynamic_slice_in_dim(a, i * size, size, axis)


def _add_at(total, part, j, size):
    held = _take(total, j, size, 2)
    return jax.lax.dynamic_update_slice_in_dim(total, held + part.astype(total.dtype), j * size, 2)


def _join(rows):
    """[blocks, B, K, G, size, …] -> [B, K, G, T, …]"""
    rows = jnp.moveaxis(rows, 0, 3)
    return rows.reshape(*rows.shape[:3], math.prod(rows.shape[3:5]), *rows.shape[5:])
