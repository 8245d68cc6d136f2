"""What decoding keeps of earlier tokens: keys and values by slot."""

import jax
import jax.numpy as jnp

from gpt_jax.model.linear import Linear


def key_value_cache(k: Linear, batch: int, length: int, dtype: jnp.dtype) -> dict:
    """{"k", "v"}: [B, K, S, H], for the keys that ``k`` makes and values of the same shape."""
    _, kv_heads, head_dim = k.w.shape
    return {name: jnp.zeros((batch, kv_heads, length, head_dim), dtype) for name in ("k", "v")}


def append(cache_BKSH: jax.Array, new_BKTH: jax.Array, start: jax.Array | int) -> jax.Array:
    """The cache with T new entries at slots start, start + 1, …

    The condition always holds. It keeps XLA's CPU backend from fusing the write into its readers, which would copy the
    whole cache several times a layer instead of writing in place.
    """

    def write():
        return jax.lax.dynamic_update_slice_in_dim(cache_BKSH, new_BKTH, start, axis=2)

    return jax.lax.cond(start < cache_BKSH.shape[2], write, lambda: cache_BKSH)
