"""Causal self-attention over all earlier tokens: multi-head, grouped-query or multi-query by ``model.kv_heads``.

This is also the pattern of a mechanism: a class registered under "model.attention" with this constructor,
``__call__(x, where, cache)`` and ``init_cache``. The contract tests run over every file of this folder.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from gpt_jax import registry
from gpt_jax.config import ModelConfig
from gpt_jax.model.linear import Linear
from gpt_jax.model.where import Where, dropout
from gpt_jax.registry import register

DROPOUT_SITE = 0


@register("model.attention", "full")
class FullAttention(nnx.Module):
    """out(softmax(q k / sqrt(H)) v) (Vaswani et al. 2017, section 3.2; grouped heads: Ainslie et al. 2023)."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
        heads, kv = (config.heads, config.head_dim), (config.kv_heads, config.head_dim)
        self.q = Linear((config.width,), heads, config, rngs)
        self.k = Linear((config.width,), kv, config, rngs)
        self.v = Linear((config.width,), kv, config, rngs)
        self.out = Linear(heads, (config.width,), config, rngs, "residual")
        self.attend = config.attend
        self.dropout = config.dropout

    def __call__(self, x_BTD: jax.Array, where: Where, cache: dict | None = None) -> tuple[jax.Array, dict | None]:
        """Attends from T tokens to themselves and, given a cache, to what it holds.

        Returns: y_BTD, and the cache with these tokens' keys and values written at slots where.start, start+1, …
        """
        q_BNTH, k_BKSH, v_BKSH = (linear(x_BTD).swapaxes(1, 2) for linear in (self.q, self.k, self.v))
        if cache is not None:
            k_BKSH, v_BKSH = append(cache["k"], k_BKSH, where.start), append(cache["v"], v_BKSH, where.start)
            cache = {"k": k_BKSH, "v": v_BKSH}
        y_BNTH = registry.build(
            "model.attend",
            self.attend,
            q_BNTH,
            k_BKSH,
            v_BKSH,
            where.visible_BTS(x_BTD.shape[1]),
            lambda weights_BNTS: dropout(weights_BNTS, self.dropout, where.keys_B, DROPOUT_SITE),
        )
        return self.out(y_BNTH.swapaxes(1, 2)), cache

    def init_cache(self, batch: int, length: int, dtype: jnp.dtype) -> dict:
        """Room for ``length`` tokens a row: {"k", "v"}: [B, K, S, H]."""
        _, kv_heads, head_dim = self.k.w.shape
        return {name: jnp.zeros((batch, kv_heads, length, head_dim), dtype) for name in ("k", "v")}


def append(cache_BKSH: jax.Array, new_BKTH: jax.Array, start: jax.Array | int) -> jax.Array:
    """The cache with T new entries at slots start, start + 1, …

    The condition always holds. It keeps XLA's CPU backend from fusing the write into its readers, which would copy the
    whole cache several times a layer instead of writing in place.
    """

    def write():
        return jax.lax.dynamic_update_slice_in_dim(cache_BKSH, new_BKTH, start, axis=2)

    return jax.lax.cond(start < cache_BKSH.shape[2], write, lambda: cache_BKSH)
