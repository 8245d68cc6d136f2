"""Normalisations of the residual stream, computed in float32."""

import jax
import jax.numpy as jnp
from flax import nnx

from gpt_jax.backend import target_platform
from gpt_jax.config import ModelConfig
from gpt_jax.errors import UserError, did_you_mean
from gpt_jax.limits import Share, Signed
from gpt_jax.model.attend import wide
from gpt_jax.model.linear import spread
from gpt_jax.model.normed import normed
from gpt_jax.registry import register


@register("model.norm", "layernorm")
class LayerNorm(nnx.Module):
    """(x - mean) / sqrt(variance + eps) * scale + bias over the last axis, per token (Ba et al. 2016)."""

    def __init__(self, width: int, config: ModelConfig, *, eps: Share = 1e-5):
        self.scale = nnx.Param(jnp.ones(width))
        self.bias = nnx.Param(jnp.zeros(width)) if config.biased("norm") else None
        self.eps = eps

    def __call__(self, x_BTD: jax.Array) -> jax.Array:
        if target_platform() != "cpu":
            return normed(self.eps, x_BTD, self.scale[...], None if self.bias is None else self.bias[...])
        x32_BTD = x_BTD.astype(wide(x_BTD.dtype))
        centred_BTD = x32_BTD - x32_BTD.mean(-1, keepdims=True)
        variance_BT1 = jnp.square(centred_BTD).mean(-1, keepdims=True)
        y_BTD = centred_BTD * jax.lax.rsqrt(variance_BT1 + self.eps)
        return trained(y_BTD, self.scale[...], self.bias).astype(x_BTD.dtype)


@register("model.norm", "rmsnorm", examples=("rmsnorm", "rmsnorm(bias=True, plus_one=True)"))
class RMSNorm(nnx.Module):
    """x / sqrt(mean(x^2) + eps) * scale, per token (Zhang & Sennrich 2019).

    Args:
      scale: whether there is a trained one (nanochat: none).
      bias: add a trained one, which most models leave out.
      plus_one: the weight is stored as its distance from 1 (Gemma), so that weight decay draws the scale to 1.
    """

    def __init__(
        self,
        width: int,
        config: ModelConfig,
        *,
        eps: Share = 1e-5,
        scale: bool = True,
        bias: bool = False,
        plus_one: bool = False,
    ):
        self.scale = nnx.Param(jnp.zeros(width) if plus_one else jnp.ones(width)) if scale else None
        self.bias = nnx.Param(jnp.zeros(width)) if bias else None
        self.eps, self.plus_one = eps, plus_one

    def __call__(self, x_BTD: jax.Array) -> jax.Array:
        y_BTD = rms_normed(x_BTD.astype(wide(x_BTD.dtype)), self.eps)
        scale_D = None if self.scale is None else self.scale[...] + self.plus_one
        return trained(y_BTD, scale_D, self.bias).astype(x_BTD.dtype)


@register("model.norm", "dyt")
class DynamicTanh(nnx.Module):
    """tanh(alpha x) * scale + bias: no statistics at all (Zhu et al. 2025, equation 1)."""

    def __init__(self, width: int, config: ModelConfig, *, alpha: Signed = 0.5):
        self.alpha = nnx.Param(jnp.full((), alpha))
        self.scale = nnx.Param(jnp.ones(width))
        self.bias = nnx.Param(jnp.zeros(width)) if config.biased("norm") else None

    def __call__(self, x_BTD: jax.Array) -> jax.Array:
        y_BTD = jnp.tanh(self.alpha[...] * x_BTD.astype(wide(x_BTD.dtype)))
        return trained(y_BTD, self.scale[...], self.bias).astype(x_BTD.dtype)


def trained(y_BTD: jax.Array, scale_D: jax.Array | None, bias: nnx.Param | None) -> jax.Array:
    """y * scale + bias, where they exist."""
    y_BTD = y_BTD if scale_D is None else y_BTD * spread(scale_D, y_BTD.shape)
    return y_BTD if bias is None else y_BTD + spread(bias[...], y_BTD.shape)


@register("model.norm", "none")
class NoNorm(nnx.Module):
    """x itself."""

    def __init__(self, width: int, config: ModelConfig):
        pass

    def __call__(self, x_BTD: jax.Array) -> jax.Array:
        return x_BTD


class HeadNorm(nnx.Module):
    """Queries and keys normalised over each head's channels, so that scores cannot grow with them.

    Args:
      kind: none; rms: root mean square 1, times a trained scale per channel (Dehghani et al. 2023; Qwen 3, Gemma 3);
        rms_plain: without the scale (nanochat); l2: length 1 (Henry et al. 2020).
    """

    def __init__(self, kind: str, channels: int):
        if kind not in HEAD_NORMS:
            raise UserError(
                f"there is no qk_norm {kind!r}",
                where="config.model.attention",
                allowed=", ".join(HEAD_NORMS),
                fix=did_you_mean(kind, HEAD_NORMS),
            )
        self.scale = nnx.Param(jnp.ones(channels)) if kind == "rms" else None
        self.kind = kind

    def __call__(self, x_BNTH: jax.Array) -> jax.Array:
        y_BNTH = HEAD_NORMS[self.kind](x_BNTH.astype(wide(x_BNTH.dtype)))
        return (y_BNTH if self.scale is None else y_BNTH * self.scale[...]).astype(x_BNTH.dtype)


def rms_normed(x: jax.Array, eps: Share = 1e-6) -> jax.Array:
    """x over the root mean square of its last axis."""
    return x * jax.lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + eps)


def l2_normed(x: jax.Array, eps: Share = 1e-6) -> jax.Array:
    """x over the length of its last axis."""
    return x * jax.lax.rsqrt(jnp.square(x).sum(-1, keepdims=True) + eps)


HEAD_NORMS = {"none": lambda x: x, "rms": rms_normed, "rms_plain": rms_normed, "l2": l2_normed}
