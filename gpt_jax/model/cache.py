"""What decoding keeps of earlier tokens: keys and values by slot."""

import jax
import jax.numpy as jnp

from gpt_jax.model.linear import Linear


def key_value_cache(k: Linear, batch: int, length: int, dtype: jnp.dtype) -> dict:
    """{"k", "v"}: [B, K, S, H], for the keys that ``k`` makes and values of the same shape."""
    _, kv_heads, head_dim = k.w.shape
    return {name: jnp.zeros((batch, kv_heads, length, head_dim), dtype) for name in ("k", "v")}


def append(cache_BKSH: jax.Array, new_BKTH: jax.Array, start: jax.Array | int) -> jax.Array:
    """The cache with T new entries at slots start, start + 1, …"""

    def write(cache_BKSH, new_BKTH, start):
        return jax.lax.dynamic_update_slice_in_dim(cache_BKSH, new_BKTH, start, axis=2)

    def write_apart(cache_BKSH, new_BKTH, start):
        # The condition always holds. It keeps XLA's CPU backend from fusing the write into its readers, which would copy
        # the whole cache several times a layer instead of writing in place.
        fits = start < cache_BKSH.shape[2]
        return jax.lax.cond(fits, write, lambda cache_BKSH, new_BKTH, start: cache_BKSH, cache_BKSH, new_BKTH, start)

    return jax.lax.platform_dependent(cache_BKSH, new_BKTH, start, cpu=write_apart, default=write)
