"""Rows of a table by number, with a gradient that needs no atomic additions on a GPU.

The derivative of a gather is a scatter-add. XLA's adds with atomics, in an order that differs from run to run, and its
deterministic one costs a tenth of a training step (docs/performance.md). Here the rows are sorted by number and added by
matrix products, in a fixed order.
"""

import functools

import jax
import jax.numpy as jnp

from gpt_jax.backend import target_platform
from gpt_jax.model.attend import wide

TILE = 128  # rows that one product adds


def lookup(w_VD: jax.Array, tokens_BT: jax.Array, dtype: jnp.dtype) -> jax.Array:
    """w[token] in ``dtype``, [B, T, D]; the gradient is accumulated in float32 or better."""
    alone = jax.sharding.get_abstract_mesh().size == 1  # on several devices every one would sort all tokens
    if target_platform() == "cpu" or not alone:
        return w_VD[tokens_BT].astype(dtype)
    return _lookup(jnp.dtype(dtype), len(w_VD), w_VD, tokens_BT)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _lookup(dtype, rows, w_VD, tokens_BT):
    return w_VD[tokens_BT].astype(dtype)


def _forward(dtype, rows, w_VD, tokens_BT):
    return _lookup(dtype, rows, w_VD, tokens_BT), (tokens_BT, jnp.zeros((), w_VD.dtype))


def _backward(dtype, rows, saved, g_BTD):
    tokens_BT, like = saved
    return sum_by_token(tokens_BT.reshape(-1), g_BTD.reshape(-1, g_BTD.shape[-1]), rows).astype(like.dtype), None


_lookup.defvjp(_forward, _backward)


def sum_by_token(tokens_X: jax.Array, g_XD: jax.Array, rows: int) -> jax.Array:
    """For every token v below ``rows`` the sum of g[x] over tokens[x] = v: [V, D], in float32 or better, in one order.

    Sorted, the rows of a token stand together. A tile of ``TILE`` rows is multiplied with ones where a row belongs to the
    tile's first, second, … token; what a token has in further tiles is then added to the tile where it begins.
    """
    fill = -len(tokens_X) % TILE
    tokens_X = jnp.pad(tokens_X, (0, fill), constant_values=rows)
    order_X = jnp.argsort(tokens_X, stable=True)
    token_KR = tokens_X[order_X].reshape(-1, TILE)
    g_KRD = jnp.pad(g_XD, ((0, fill), (0, 0)))[order_X].reshape(-1, TILE, g_XD.shape[1])

    before_KR = jnp.concatenate([jnp.full(1, -1, token_KR.dtype), token_KR.reshape(-1)[:-1]]).reshape(token_KR.shape)
    begins_KR = token_KR != before_KR
    place_KR = jnp.cumsum(begins_KR & (jnp.arange(TILE) > 0), axis=1)  # of a row's token among those of the tile
    at_KRS = place_KR[..., None] == jnp.arange(TILE)
    exact = jax.lax.Precision.HIGHEST
    dtype = wide(g_XD.dtype)
    sums_KSD = jnp.einsum(
        "KRS,KRD->KSD", at_KRS.astype(g_XD.dtype), g_KRD, precision=exact, preferred_element_type=dtype
    )

    goes_on_K = ~begins_KR[:, 0]
    begins_here_K = (place_KR[:, -1] > 0) | ~goes_on_K  # of the last token of a tile
    same_JK = token_KR[:, -1][:, None] == token_KR[:, 0][None]
    further_JK = (same_JK & begins_here_K[:, None] & goes_on_K[None]).astype(dtype)
    rest_JD = jnp.einsum("JK,KD->JD", further_JK, sums_KSD[:, 0], precision=exact)
    last_KS = place_KR[:, -1:] == jnp.arange(TILE)
    sums_KSD += jnp.where(last_KS[..., None], rest_JD[:, None], 0)

    token_KS = jnp.where(at_KRS, token_KR[..., None], -1).max(1)
    begun_KS = (token_KS >= 0) & ~(goes_on_K[:, None] & (jnp.arange(TILE) == 0))
    nowhere_KS = rows + jnp.arange(token_KS.size).reshape(token_KS.shape)  # beyond the table: dropped
    target_KS = jnp.where(begun_KS & (token_KS < rows), token_KS, nowhere_KS)
    total_VD = jnp.zeros((rows, g_XD.shape[1]), dtype)
    return total_VD.at[target_KS.reshape(-1)].set(sums_KSD.reshape(-1, g_XD.shape[1]), mode="drop", unique_indices=True)
