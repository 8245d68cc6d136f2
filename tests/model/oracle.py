"""Attention in NumPy and float64, key by key, from the definitions alone: what every backend is held against."""

import math

import numpy as np

from gpt_jax.model.attend import AttentionSpec, Reach
from gpt_jax.model.where import Where


def sees(reach: Reach, q: int, k: int, where: Where, row: int, queries: np.ndarray, keys: np.ndarray) -> bool:
    """Whether the query at index q of a row sees the key at slot k."""
    if where.held is None and k > q:
        return False
    if where.held is not None and not 0 <= keys[row, k] <= queries[row, q]:
        return False
    if where.segments_BT is not None and where.segments_BT[row, q] != where.segments_BT[row, k]:
        return False
    t, s = queries[row, q], keys[row, k]
    if reach.window and t - s >= reach.window:
        return False
    if reach.chunk and t // reach.chunk != s // reach.chunk:
        return False
    return not (reach.stride and t - s >= reach.stride and (t - s) % reach.stride)


def positions(where: Where, batch: int, t: int, s: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions of queries [B, T] and of keys [B, S]."""
    queries = np.tile(np.arange(t), (batch, 1))
    if where.positions_BT is not None:
        queries = np.broadcast_to(np.asarray(where.positions_BT), (batch, t))
    return queries, queries if where.held is None else np.asarray(where.held[s])


def attention(spec: AttentionSpec, q, k, v, where: Where, bias=None, sink=None, before=None, after=None) -> np.ndarray:
    """y[b, n, t] of q [B, N, T, H], k [B, K, S, H], v [B, K, S, J].

    Args:
      bias: (head, query position, key position) -> number.
    """
    q, k, v = (np.asarray(a, np.float64) for a in (q, k, v))
    (b, n, t, _), s, groups = q.shape, k.shape[2], q.shape[1] // k.shape[1]
    at_q, at_k = positions(where, b, t, s)
    y = np.zeros((b, n, t, v.shape[-1]))
    for i in range(b):
        for m in range(t):
            seen = [r for r in range(s) if sees(spec.reach, m, r, where, i, at_q, at_k)]
            scores = np.array([[spec.scale * q[i, h, m] @ k[i, h // groups, r] for r in seen] for h in range(n)])
            if before is not None:
                scores = np.asarray(before, np.float64).T @ scores
            if spec.softcap:
                scores = spec.softcap * np.tanh(scores / spec.softcap)
            if bias is not None:
                scores += np.array([[bias(h, at_q[i, m], at_k[i, r]) for r in seen] for h in range(n)])
            weights = np.exp(scores)
            total = weights.sum(1, keepdims=True)
            weights /= total if sink is None else total + np.exp(np.asarray(sink, np.float64))[:, None]
            if after is not None:
                weights = np.asarray(after, np.float64).T @ weights
            for h in range(n):
                y[i, h, m] = sum(w * v[i, h // groups, r] for w, r in zip(weights[h], seen, strict=True))
    return y


def rotate(x: np.ndarray, at: np.ndarray, theta: float, interleaved: bool = False) -> np.ndarray:
    """x [..., T, H] with pairs of channels turned by at [T] * theta^(-2i/H), as complex numbers."""
    h = x.shape[-1]
    first, second = (x[..., 0::2], x[..., 1::2]) if interleaved else (x[..., : h // 2], x[..., h // 2 :])
    angle = np.asarray(at, np.float64)[:, None] * theta ** (-np.arange(0, h, 2) / h)
    turned = (first + 1j * second) * np.exp(1j * angle)
    if not interleaved:
        return np.concatenate([turned.real, turned.imag], axis=-1)
    return np.stack([turned.real, turned.imag], axis=-1).reshape(x.shape)


def rms(x: np.ndarray, eps: float) -> np.ndarray:
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + eps)


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def slope(head: int, heads: int) -> float:
    return 2.0 ** (-8 * (head + 1) / heads)


def t5_bucket(back: int, buckets: int, furthest: int) -> int:
    near = buckets // 2
    if back < near:
        return back
    return min(
        buckets - 1, near + math.floor(math.log(back / near) / math.log(furthest / near) * (buckets - near) + 1e-9)
    )
