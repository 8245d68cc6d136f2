"""The core of attention, softmax(q k / sqrt(H)) v, behind one function per backend. Heads stand before time."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from gpt_jax.registry import register

Drop = Callable[[jax.Array], jax.Array]


@register("model.attend", "xla")
def xla(q_BNTH: jax.Array, k_BKSH: jax.Array, v_BKSH: jax.Array, visible_BTS: jax.Array, drop: Drop) -> jax.Array:
    """Plain products over a materialised [B, N, T, S] score matrix; softmax in float32.

    Args:
      visible_BTS: booleans [B or 1, T, S]. A query that sees no key gets the mean of all values (padding only).
      drop: applied to the attention weights, as [B, N, T, S].

    Returns: y_BNTH. Query heads n of group g read kv head n // (N/K) (Ainslie et al. 2023). The queries of a group are
    rows (Q = G T) of one product: an axis G of size 1 would make XLA's CPU backend transpose the whole cache when T = 1.
    """
    b, n, t, h = q_BNTH.shape
    k, s = k_BKSH.shape[1:3]
    q_BKQH = (q_BNTH / math.sqrt(h)).reshape(b, k, n // k * t, h)
    scores_BKQS = jnp.einsum("BKQH,BKSH->BKQS", q_BKQH, k_BKSH).astype(_at_least_f32(q_BNTH.dtype))
    scores_BKGTS = scores_BKQS.reshape(b, k, n // k, t, s)
    hidden = jnp.finfo(scores_BKGTS.dtype).min
    scores_BKGTS = jnp.where(visible_BTS[:, None, None], scores_BKGTS, hidden)
    weights_BKGTS = jax.nn.softmax(scores_BKGTS).astype(q_BNTH.dtype)
    weights_BKQS = drop(weights_BKGTS.reshape(b, n, t, s)).reshape(b, k, n // k * t, s)
    return jnp.einsum("BKQS,BKSH->BKQH", weights_BKQS, v_BKSH).reshape(b, n, t, h)


@register("model.attend", "auto")
def auto(q_BNTH: jax.Array, k_BKSH: jax.Array, v_BKSH: jax.Array, visible_BTS: jax.Array, drop: Drop) -> jax.Array:
    """The fastest backend that can do what is asked on this device; today ``xla`` everywhere."""
    return xla(q_BNTH, k_BKSH, v_BKSH, visible_BTS, drop)


def _at_least_f32(dtype) -> jnp.dtype:
    return jnp.promote_types(dtype, jnp.float32)
