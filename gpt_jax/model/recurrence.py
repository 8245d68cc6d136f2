"""Attention without a softmax, as a recurrence over a state, computed chunk by chunk in parallel.

    S[t] = a[t] (I - b[t] k[t] k[t]') S[t-1] + b[t] k[t] v[t]',   y[t] = S[t]' q[t]

with b = 0 inside the bracket for plain linear attention. Unrolled from a chunk's first state S0, with g the running sum
of log a and w[t, s] = exp(g[t] - g[s]):

    u[t] = b[t] (v[t] - exp(g[t]) S0' k[t] - sum over s < t of w[t, s] (k[t] . k[s]) u[s])
    y[t] = exp(g[t]) S0' q[t] + sum over s <= t of w[t, s] (q[t] . k[s]) u[s]

The equations for u are a triangular system, one solve a chunk (Yang et al. 2024, "Gated Delta Networks", section 3.3).
One token at a time this is the recurrence itself.
"""

import math

import jax
import jax.numpy as jnp

from gpt_jax.model.where import Where

CHUNK = 64


def recurrence(
    q_BNTH: jax.Array,
    k_BNTH: jax.Array,
    v_BNTJ: jax.Array,
    log_decay_BNT: jax.Array,
    beta_BNT: jax.Array | None,
    where: Where,
    state_BNHJ: jax.Array | None,
) -> tuple[jax.Array, jax.Array]:
    """y_BNTJ in float32 or better, and the state after the last token.

    Args:
      beta_BNT: how far a write replaces the value under its key, 0 to 1; None = writes only add.
      where: segments, at whose borders the state is reset to 0, and padding, which writes nothing.
      state_BNHJ: of the tokens before; None = empty.
    """
    dtype = jnp.promote_types(q_BNTH.dtype, jnp.float32)
    b, n, t, h = q_BNTH.shape
    if where.real_BT is not None:
        k_BNTH = jnp.where(where.real_BT[:, None, :, None], k_BNTH, 0)
        log_decay_BNT = jnp.where(where.real_BT[:, None], log_decay_BNT, 0)
    segment_BT = jnp.zeros((b, t), jnp.int32) if where.segments_BT is None else where.segments_BT
    size = min(CHUNK, t)
    count = math.ceil(t / size)

    def cut(a, axis, mode="constant"):
        """[…, T, …] -> [chunks, …, size, …]; padding at the end writes nothing and decays nothing."""
        pad = [(0, count * size - t if i == axis else 0) for i in range(a.ndim)]
        a = jnp.pad(a, pad, mode=mode)
        return jnp.moveaxis(a.reshape(*a.shape[:axis], count, size, *a.shape[axis + 1 :]), axis, 0)

    parts = [cut(a.astype(dtype), 2) for a in (q_BNTH, k_BNTH, v_BNTJ, log_decay_BNT)]
    parts += [None if beta_BNT is None else cut(beta_BNT.astype(dtype), 2), cut(segment_BT, 1, "edge")]
    empty = jnp.zeros((b, n, h, v_BNTJ.shape[-1]), dtype)
    start = (empty if state_BNHJ is None else state_BNHJ.astype(dtype), segment_BT[:, 0])
    (state_BNHJ, _), y = jax.lax.scan(_chunk, start, tuple(parts))
    return jnp.moveaxis(y, 0, 2).reshape(b, n, count * size, -1)[:, :, :t], state_BNHJ


def _chunk(carry, part):
    """One chunk of T tokens: (state, the segment it is of) before it -> the same after it, and y_BNTJ."""
    (state_BNHJ, of_B), (q_BNTH, k_BNTH, v_BNTJ, log_decay_BNT, beta_BNT, segment_BT) = carry, part
    g_BNT = jnp.cumsum(log_decay_BNT, axis=-1)
    same_BTS = segment_BT[:, :, None] == segment_BT[:, None, :]
    seen_BTS = jnp.tril(same_BTS)
    w_BNTS = jnp.exp(jnp.where(seen_BTS[:, None], g_BNT[..., :, None] - g_BNT[..., None, :], -jnp.inf))
    kept_BNT = jnp.exp(g_BNT) * (segment_BT == of_B[:, None])[:, None]
    u_BNTJ = v_BNTJ
    if beta_BNT is not None:
        overlap_BNTS = jnp.tril(w_BNTS * jnp.einsum("BNTH,BNSH->BNTS", k_BNTH, k_BNTH), -1)
        old_BNTJ = kept_BNT[..., None] * jnp.einsum("BNTH,BNHJ->BNTJ", k_BNTH, state_BNHJ)
        system_BNTS = beta_BNT[..., None] * overlap_BNTS + jnp.eye(g_BNT.shape[-1], dtype=w_BNTS.dtype)
        u_BNTJ = jax.scipy.linalg.solve_triangular(
            system_BNTS, beta_BNT[..., None] * (v_BNTJ - old_BNTJ), lower=True, unit_diagonal=True
        )
    y_BNTJ = jnp.einsum("BNTS,BNSJ->BNTJ", w_BNTS * jnp.einsum("BNTH,BNSH->BNTS", q_BNTH, k_BNTH), u_BNTJ)
    y_BNTJ += kept_BNT[..., None] * jnp.einsum("BNTH,BNHJ->BNTJ", q_BNTH, state_BNHJ)
    last_BNS, kept_BN = w_BNTS[..., -1, :], kept_BNT[..., -1]
    written_BNHJ = jnp.einsum("BNSH,BNSJ->BNHJ", k_BNTH * last_BNS[..., None], u_BNTJ)
    return (kept_BN[..., None, None] * state_BNHJ + written_BNHJ, segment_BT[:, -1]), y_BNTJ
