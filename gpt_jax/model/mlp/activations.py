"""The functions between two products."""

import math

import jax
import jax.numpy as jnp

from gpt_jax.backend import target_platform
from gpt_jax.model.attend import wide


@jax.custom_jvp
def gelu(x: jax.Array) -> jax.Array:
    """GELU in the tanh form that GPT-2 uses (Hendrycks & Gimpel 2016, section 2).

    The derivative recomputes tanh from x, so that only x is kept for the backward pass.
    """
    if target_platform() != "cpu":
        x32 = x.astype(wide(x.dtype))
        return (x32 / (1 + jnp.exp(-2 * _gelu_inner(x32)))).astype(x.dtype)
    return 0.5 * x * (1 + jnp.tanh(_gelu_inner(x)))


def _gelu_inner(x):
    return math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)


@gelu.defjvp
def _gelu_jvp(primals, tangents):
    (x,), (dx,) = primals, tangents
    if target_platform() != "cpu":
        return gelu(x), _gelu_slope(x) * dx
    tanh = jnp.tanh(_gelu_inner(x))
    inner_slope = math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * x**2)
    return 0.5 * x * (1 + tanh), (0.5 * (1 + tanh) + 0.5 * x * (1 - tanh**2) * inner_slope) * dx


def _gelu_slope(x):
    """The derivative, from exp(+2 inner): what it shared with ``gelu`` XLA would compute once and keep, on a GPU."""
    x32 = x.astype(wide(x.dtype))
    rest = 1 / (1 + jnp.exp(2 * _gelu_inner(x32)))
    inner_slope = math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * x32**2)
    return ((1 - rest) * (1 + 2 * x32 * rest * inner_slope)).astype(x.dtype)


def gelu_erf(x: jax.Array) -> jax.Array:
    """x Phi(x), the exact GELU (Pythia, GPT-NeoX)."""
    return jax.nn.gelu(x, approximate=False)


def relu2(x: jax.Array) -> jax.Array:
    """relu(x)^2 (So et al. 2021)."""
    return jnp.square(jax.nn.relu(x))


ACTIVATIONS = {
    "gelu": gelu,
    "gelu_erf": gelu_erf,
    "relu": jax.nn.relu,
    "relu2": relu2,
    "tanh": jnp.tanh,
    "silu": jax.nn.silu,
}


def clamped_swiglu(gate: jax.Array, up: jax.Array) -> jax.Array:
    """(up + 1) * gate * sigmoid(1.702 gate), with gate at most 7 and up between -7 and 7 (gpt-oss)."""
    gate, up = jnp.minimum(gate, 7), jnp.clip(up, -7, 7)
    return (up + 1) * gate * jax.nn.sigmoid(1.702 * gate)


# Gated units: functions of (gate, up), all but the last a product (Shazeer 2020).
GATES = {
    "swiglu": lambda gate, up: jax.nn.silu(gate) * up,
    "geglu": lambda gate, up: gelu(gate) * up,
    "geglu_erf": lambda gate, up: gelu_erf(gate) * up,
    "reglu": lambda gate, up: jax.nn.relu(gate) * up,
    "glu": lambda gate, up: jax.nn.sigmoid(gate) * up,
    "bilinear": lambda gate, up: gate * up,
    "clamped_swiglu": clamped_swiglu,
}
