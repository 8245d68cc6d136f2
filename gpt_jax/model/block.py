"""One layer of the stack: attention and an MLP around a residual stream, and where the norms are."""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from gpt_jax import registry
from gpt_jax.config import ModelConfig
from gpt_jax.limits import Signed
from gpt_jax.model.where import Where, dropout
from gpt_jax.registry import options, register

ATTENTION_DROPOUT_SITE, MLP_DROPOUT_SITE = 1, 2
Out = tuple[jax.Array, dict | None, dict]


@dataclasses.dataclass(frozen=True)
class Joining:
    """How a branch is added to the residual stream: shortcut * x + branch * y.

    Args:
      shortcut, branch: fixed factors; DeepNet's alpha is a shortcut, 1/sqrt(2L) a branch that keeps variance with depth.
      embed_skip: x is first replaced by a * x + b * (the embedded tokens), with a = 1 and b = 0 trained from there on.
    """

    shortcut: Signed = 1.0
    branch: Signed = 1.0
    embed_skip: bool = False


class Residual(nnx.Module):
    """The residual connections of a layer; see ``Joining``."""

    def __init__(self, config: ModelConfig, given: Joining):
        self.given, self.rate = given, config.dropout
        self.skip = nnx.Param(jnp.array([1.0, 0.0])) if given.embed_skip else None

    def start(self, x_BTD: jax.Array, where: Where) -> jax.Array:
        """The stream that the layer reads."""
        if self.skip is None:
            return x_BTD
        keep, skip = self.skip[...].astype(x_BTD.dtype)
        return keep * x_BTD + skip * where.embedded_BTD

    def join(self, x_BTD: jax.Array, y_BTD: jax.Array, where: Where, site: int) -> jax.Array:
        """The stream with a branch added."""
        shortcut = self.given.shortcut
        return where.spread.between((x_BTD if shortcut == 1 else shortcut * x_BTD) + self.kept(y_BTD, where, site))

    def kept(self, y_BTD: jax.Array, where: Where, site: int) -> jax.Array:
        """A branch after dropout, scaled."""
        y_BTD = dropout(y_BTD, self.rate, where.keys_B, site)
        return y_BTD if self.given.branch == 1 else self.given.branch * y_BTD


def _branch(part: nnx.Module, x_BTD: jax.Array, where: Where, *cache: dict | None) -> tuple[jax.Array, Any]:
    """What attention or an MLP makes of its input, on devices that may share the work."""
    y_BTD, beside = part(where.spread.read(x_BTD), where, *cache)
    return where.spread.write(y_BTD), beside


def _norm(config: ModelConfig) -> nnx.Module:
    return registry.build("model.norm", config.norm, config.width, config, where="config.model.norm")


def _attention(config: ModelConfig, call: str, rngs: nnx.Rngs) -> nnx.Module:
    return registry.build("model.attention", call, config, rngs, where="config.model.attention")


def _mlp(config: ModelConfig, rngs: nnx.Rngs) -> nnx.Module:
    return registry.build("model.mlp", config.mlp, config, rngs, where="config.model.mlp")


@register("model.block", "pre", examples=("pre", "pre(shortcut=1.5, branch=0.5, embed_skip=True)"))
class PreNormBlock(nnx.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)): GPT-2's placement (Radford et al. 2019, section 2.3).

    Args:
      attention: this layer's mechanism, a name or call of kind "model.attention".
      given: the fields of ``Joining``.
    """

    final_norm: ClassVar[bool] = True

    @options(Joining)
    def __init__(self, config: ModelConfig, attention: str, rngs: nnx.Rngs, **given):
        self.norm1 = _norm(config)
        self.attention = _attention(config, attention, rngs)
        self.norm2 = _norm(config)
        self.mlp = _mlp(config, rngs)
        self.residual = Residual(config, Joining(**given))

    def __call__(self, x_BTD: jax.Array, where: Where, cache: dict | None = None) -> Out:
        """The stream after this layer, the cache with these tokens, and what the layer reports (statistics by name)."""
        x_BTD = self.residual.start(x_BTD, where)
        y_BTD, cache = _branch(self.attention, self.norm1(x_BTD), where, cache)
        x_BTD = self.residual.join(x_BTD, y_BTD, where, ATTENTION_DROPOUT_SITE)
        y_BTD, report = _branch(self.mlp, self.norm2(x_BTD), where)
        return self.residual.join(x_BTD, y_BTD, where, MLP_DROPOUT_SITE), cache, report

    def attended(self, x_BTD: jax.Array, where: Where) -> jax.Array:
        """The input of attention."""
        return self.norm1(self.residual.start(x_BTD, where))


@register("model.block", "post", examples=("post", "post(deepnorm=True, embed_skip=True)"))
class PostNormBlock(nnx.Module):
    """norm(x + attention(x)), then norm(x + mlp(x)), and no norm after the last layer (Vaswani et al. 2017; GPT-1).

    Args:
      deepnorm: the shortcut is (2L)^(1/4) (Wang et al. 2022, section 4.2), meant for ``model.init = "deepnorm"``.
    """

    final_norm: ClassVar[bool] = False

    def __init__(
        self, config: ModelConfig, attention: str, rngs: nnx.Rngs, *, deepnorm: bool = False, embed_skip: bool = False
    ):
        self.attention = _attention(config, attention, rngs)
        self.norm1 = _norm(config)
        self.mlp = _mlp(config, rngs)
        self.norm2 = _norm(config)
        shortcut = (2 * config.layers) ** 0.25 if deepnorm else 1.0
        self.residual = Residual(config, Joining(shortcut, 1.0, embed_skip))

    def __call__(self, x_BTD: jax.Array, where: Where, cache: dict | None = None) -> Out:
        x_BTD = self.residual.start(x_BTD, where)
        y_BTD, cache = _branch(self.attention, x_BTD, where, cache)
        x_BTD = self.norm1(self.residual.join(x_BTD, y_BTD, where, ATTENTION_DROPOUT_SITE))
        y_BTD, report = _branch(self.mlp, x_BTD, where)
        return self.norm2(self.residual.join(x_BTD, y_BTD, where, MLP_DROPOUT_SITE)), cache, report

    def attended(self, x_BTD: jax.Array, where: Where) -> jax.Array:
        return self.residual.start(x_BTD, where)


@register("model.block", "sandwich")
class SandwichBlock(nnx.Module):
    """x + norm(attention(norm(x))), then x + norm(mlp(norm(x))) (Ding et al. 2021; Gemma 2 and 3)."""

    final_norm: ClassVar[bool] = True

    @options(Joining)
    def __init__(self, config: ModelConfig, attention: str, rngs: nnx.Rngs, **given):
        self.norm1, self.norm1_out = _norm(config), _norm(config)
        self.attention = _attention(config, attention, rngs)
        self.norm2, self.norm2_out = _norm(config), _norm(config)
        self.mlp = _mlp(config, rngs)
        self.residual = Residual(config, Joining(**given))

    def __call__(self, x_BTD: jax.Array, where: Where, cache: dict | None = None) -> Out:
        x_BTD = self.residual.start(x_BTD, where)
        y_BTD, cache = _branch(self.attention, self.norm1(x_BTD), where, cache)
        x_BTD = self.residual.join(x_BTD, self.norm1_out(y_BTD), where, ATTENTION_DROPOUT_SITE)
        y_BTD, report = _branch(self.mlp, self.norm2(x_BTD), where)
        return self.residual.join(x_BTD, self.norm2_out(y_BTD), where, MLP_DROPOUT_SITE), cache, report

    def attended(self, x_BTD: jax.Array, where: Where) -> jax.Array:
        return self.norm1(self.residual.start(x_BTD, where))


@register("model.block", "parallel", examples=("parallel", "parallel(shared_norm=False, branch=0.5)"))
class ParallelBlock(nnx.Module):
    """x + attention(norm(x)) + mlp(norm(x)): both branches read the same stream (Wang & Komatsuzaki 2021).

    Args:
      shared_norm: one norm feeds both (GPT-J), rather than one each (GPT-NeoX, Pythia).
    """

    final_norm: ClassVar[bool] = True

    @options(Joining)
    def __init__(self, config: ModelConfig, attention: str, rngs: nnx.Rngs, *, shared_norm: bool = True, **given):
        self.norm1 = _norm(config)
        self.attention = _attention(config, attention, rngs)
        self.norm2 = None if shared_norm else _norm(config)
        self.mlp = _mlp(config, rngs)
        self.residual = Residual(config, Joining(**given))

    def __call__(self, x_BTD: jax.Array, where: Where, cache: dict | None = None) -> Out:
        x_BTD = self.residual.start(x_BTD, where)
        normed_BTD = self.norm1(x_BTD)
        y_BTD, cache = _branch(self.attention, normed_BTD, where, cache)
        z_BTD, report = _branch(self.mlp, normed_BTD if self.norm2 is None else self.norm2(x_BTD), where)
        x_BTD = self.residual.join(x_BTD, y_BTD, where, ATTENTION_DROPOUT_SITE)
        return x_BTD + self.residual.kept(z_BTD, where, MLP_DROPOUT_SITE), cache, report

    def attended(self, x_BTD: jax.Array, where: Where) -> jax.Array:
        return self.norm1(self.residual.start(x_BTD, where))
