"""Normalisation of each token with its derivative written out, for GPUs.

What autodiff makes of it keeps float32 arrays of the size of the stream for the gradients of scale and bias. Here those
are sums over the stream as it is, and the statistics of a token are two numbers (docs/performance.md).
"""

import functools

import jax
import jax.numpy as jnp

from gpt_jax.model.attend import wide


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def normed(eps: float, x_BTD: jax.Array, scale_D: jax.Array, bias_D: jax.Array | None) -> jax.Array:
    """(x - mean) / sqrt(variance + eps) * scale + bias in x's dtype."""
    return _forward(eps, x_BTD, scale_D, bias_D)[0]


def _forward(eps, x_BTD, scale_D, bias_D):
    x32_BTD = x_BTD.astype(wide(x_BTD.dtype))
    mean_BT1, square_BT1 = (sums_BT[..., None] for sums_BT in _moments(x32_BTD))
    over_BT1 = jax.lax.rsqrt(square_BT1 + eps)
    y_BTD = (x32_BTD - mean_BT1) * over_BT1 * scale_D
    y_BTD = y_BTD if bias_D is None else y_BTD + bias_D
    return y_BTD.astype(x_BTD.dtype), (x_BTD, mean_BT1, over_BT1, scale_D, bias_D)


def _moments(x_BTD):
    """Mean and variance over the last axis in one pass (Chan, Golub & LeVeque 1983, equation 1.5)."""

    def joined(a, b):
        count = a[2] + b[2]
        share = b[2] / jnp.maximum(count, 1)
        apart = b[0] - a[0]
        return a[0] + apart * share, a[1] + b[1] + apart * apart * a[2] * share, count

    zero = jnp.zeros((), x_BTD.dtype)
    parts = (x_BTD, jnp.zeros_like(x_BTD), jnp.ones_like(x_BTD))
    mean_BT, squares_BT, _ = jax.lax.reduce(parts, (zero, zero, zero), joined, (2,))
    return mean_BT, squares_BT / x_BTD.shape[-1]


def _backward(eps, saved, dy_BTD):
    x_BTD, mean_BT1, over_BT1, scale_D, bias_D = saved
    # Else XLA computes the statistics again where they are used, in a pass of its own that writes what the sums read.
    mean_BT1, over_BT1 = jax.lax.optimization_barrier((mean_BT1, over_BT1))
    dy32_BTD = dy_BTD.astype(mean_BT1.dtype)
    y_BTD = (x_BTD.astype(mean_BT1.dtype) - mean_BT1) * over_BT1
    d_BTD = dy32_BTD * scale_D
    dx_BTD = d_BTD - y_BTD * (d_BTD * y_BTD).mean(-1, keepdims=True)
    dx_BTD = over_BT1 * (dx_BTD - d_BTD.mean(-1, keepdims=True))
    dscale_D = (dy32_BTD * y_BTD).sum((0, 1))
    return dx_BTD.astype(x_BTD.dtype), dscale_D, None if bias_D is None else dy32_BTD.sum((0, 1))


normed.defvjp(_forward, _backward)
