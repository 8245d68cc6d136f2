"""Causal self-attention over all earlier tokens: multi-head, grouped-query or multi-query by ``model.kv_heads``.

This is also the template of a mechanism: a module registered under "model.attention" that is built from (config, rngs)
and options of its own, with ``__call__(x, where, cache)`` and ``init_cache``. The contract tests run over every file of
this folder.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from gpt_jax import registry
from gpt_jax.config import ModelConfig
from gpt_jax.errors import UserError
from gpt_jax.limits import Factor
from gpt_jax.model import init
from gpt_jax.model.attend import AttentionSpec, Extras, Reach, attend, require
from gpt_jax.model.cache import Ring, ring
from gpt_jax.model.linear import Linear, heads_in_and_out
from gpt_jax.model.norm import HeadNorm
from gpt_jax.model.position import Position
from gpt_jax.model.where import Where
from gpt_jax.registry import options, register


@dataclasses.dataclass(frozen=True)
class Options:
    """The options of every mechanism over a softmax.

    Args:
      qk_norm: none, rms, rms_plain or l2 (``HeadNorm``); l2 trains a factor of the scores per head.
      softcap: c of scores = c * tanh(scores / c) (Gemma 2); 0 = none.
      sink: a trained logit per head in the softmax's denominator (gpt-oss).
      gate: heads times sigmoid(w x), element by element (Qiu et al. 2025).
      head_scale: heads times a trained factor each (Shleifer et al. 2021).
      value_residual: values are a mix of the layer's own and the first layer's, 1/2 each at first (Zhou et al. 2024).
      mixing: scores, and again weights, are mixed across heads by trained matrices (Shazeer et al. 2020).
      scale: of q . k; 0 = the parametrisation's, 1/sqrt(H) but for muP.
      position: this layer's own scheme, for example "none" or "rope(theta=10000)"; empty = the model's.
    """

    qk_norm: str = "none"
    softcap: Factor = 0.0
    sink: bool = False
    gate: bool = False
    head_scale: bool = False
    value_residual: bool = False
    mixing: bool = False
    scale: Factor = 0.0
    position: str = ""


class SoftmaxAttention(nnx.Module):
    """out(softmax(q k / sqrt(H)) v) (Vaswani et al. 2017, section 3.2; grouped heads: Ainslie et al. 2023).

    Args:
      reach: which of the earlier tokens a query attends to.
      given: the other options.
    """

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs, reach: Reach, given: Options):
        self.q, self.k, self.v, self.out = heads_in_and_out(config, rngs)
        heads = (config.heads, config.head_dim)
        self.gate = Linear((config.width,), heads, config, rngs, "gate") if given.gate else None
        self.q_norm, self.k_norm = (HeadNorm(given.qk_norm, config.head_dim) for _ in "qk")
        l2 = given.qk_norm == "l2"
        self.temperature = nnx.Param(jnp.full(config.heads, config.head_dim**0.5)) if l2 else None
        self.sink = nnx.Param(jnp.zeros(config.heads)) if given.sink else None
        self.head_scale = nnx.Param(jnp.ones(config.heads)) if given.head_scale else None
        self.value_mix: Any = nnx.Param(jnp.array([0.5, 0.5])) if given.value_residual else None
        self.before, self.after = (nnx.Param(jnp.eye(config.heads)) if given.mixing else None for _ in range(2))
        own = given.position
        self.position: Any = registry.build("model.position", own, config, rngs) if own else None
        self.backend = config.attend
        self.spec = AttentionSpec(
            scale=given.scale or (1.0 if l2 else init.scheme(config).scale(config.head_dim)),
            reach=reach,
            softcap=given.softcap,
            sink=given.sink,
            bias=biased(own or config.position),
            mixing=given.mixing,
            dropout=config.dropout,
        )
        require(self.backend, self.spec.features)

    def __call__(self, x_BTD: jax.Array, where: Where, cache: Ring | None = None) -> tuple[jax.Array, Ring | None]:
        """Attends from T tokens to themselves and, given a cache, to the tokens in it.

        Returns: y_BTD, and the cache with these tokens' keys and values written (``Where.start``)
        """
        q_BNTH, k_BKSH, v_BKSH = (linear(x_BTD).swapaxes(1, 2) for linear in (self.q, self.k, self.v))
        position = self.position or where.position
        at_BT = where.queries(x_BTD.shape[1]).position_BT
        q_BNTH = position.rotate(self.q_norm(q_BNTH), at_BT)
        k_BKSH = position.rotate(self.k_norm(k_BKSH), at_BT)
        if self.temperature is not None:
            q_BNTH *= self.temperature[...].astype(q_BNTH.dtype)[:, None, None]
        if self.value_mix is not None:
            v_BKSH = self._mixed(v_BKSH, where)
        if cache is not None:
            cache = cache.append(where, k=k_BKSH, v=v_BKSH)
            k_BKSH, v_BKSH = cache["k"], cache["v"]
        arrays = (None if a is None else a[...] for a in (self.sink, self.before, self.after))
        extras = Extras(position if self.spec.bias else None, *arrays)
        y_BNTH = attend(self.backend, self.spec, q_BNTH, k_BKSH, v_BKSH, where, extras)
        if self.head_scale is not None:
            y_BNTH *= self.head_scale[...].astype(y_BNTH.dtype)[:, None, None]
        y_BTNH = y_BNTH.swapaxes(1, 2)
        if self.gate is not None:
            y_BTNH *= jax.nn.sigmoid(self.gate(x_BTD))
        return self.out(y_BTNH), cache

    def _mixed(self, v_BKTH, where):
        if where.values_BKTH is None:
            raise UserError(
                "value_residual takes the first layer's values, and the first layer gives none",
                where="config.model.attention",
                fix="give the first mechanism of the list value_residual=True too",
            )
        own, first = self.value_mix[...].astype(v_BKTH.dtype)
        return own * v_BKTH + first * where.values_BKTH

    def values(self, x_BTD: jax.Array) -> jax.Array | None:
        """v_BKTH, which the first layer gives to the layers above where these mix it in."""
        return None if self.value_mix is None else self.v(x_BTD).swapaxes(1, 2)

    def init_cache(self, batch: int, length: int, most: int, dtype: jnp.dtype) -> Ring:
        """Room for ``length`` tokens a row, given at most ``most`` at a time: k and v, [B, K, S, H] each."""
        size = self.k.w.shape[1:]
        return ring(batch, self.spec.reach.slots(length, most), dtype, k=size, v=size)


@register(
    "model.attention",
    "full",
    examples=(
        "full",
        "full(qk_norm='rms', softcap=2.0, sink=True)",
        "full(qk_norm='l2', gate=True, head_scale=True)",
        "full(qk_norm='rms_plain', value_residual=True, scale=0.3, position='rope(theta=100.0)')",
    ),
)
@options(Options)
def full(config: ModelConfig, rngs: nnx.Rngs, **given) -> SoftmaxAttention:
    """Every earlier token."""
    return SoftmaxAttention(config, rngs, Reach(), Options(**given))


def biased(position: str) -> bool:
    """Whether a position scheme adds a bias to the scores: whether it overrides ``Position.bias``."""
    return _scheme(position).bias is not Position.bias


def rotates(position: str) -> bool:
    """Whether a position scheme rotates queries and keys: whether it overrides ``Position.rotate``."""
    return _scheme(position).rotate is not Position.rotate


def _scheme(position: str) -> Any:
    name, _ = registry.parse(position, where="config.model.position")
    return registry.lookup("model.position", name, where="config.model.position")
