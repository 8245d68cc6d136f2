"""Differential attention: the difference of two softmaxes cancels their common noise."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from gpt_jax.config import ModelConfig
from gpt_jax.errors import UserError
from gpt_jax.limits import Natural
from gpt_jax.model.attend import AttentionSpec, Extras, Reach, attend, require
from gpt_jax.model.attention.full import biased
from gpt_jax.model.cache import Ring, ring
from gpt_jax.model.init import scheme
from gpt_jax.model.linear import heads_in_and_out
from gpt_jax.model.norm import rms_normed
from gpt_jax.model.where import Tokens, Where
from gpt_jax.registry import register


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class EveryOther:
    """A position scheme's biases for every other head."""

    position: Any
    first: int = dataclasses.field(metadata={"static": True})

    def bias(self, queries: Tokens, keys: Tokens) -> jax.Array:
        bias_BNTS = self.position.bias(queries, keys)
        return bias_BNTS if bias_BNTS.shape[1] == 1 else bias_BNTS[:, self.first :: 2]


@register("model.attention", "differential", examples=("differential", "differential(window=3)"))
class DifferentialAttention(nnx.Module):
    """(softmax(q1 k1) - lambda softmax(q2 k2)) v, normed head by head (Ye et al. 2024, equations 1 to 3).

    Heads 2i and 2i + 1 make up one differential head with values of 2H channels, so that shapes and parameters are those
    of ``full`` but for lambda and the norm's scale.

    Args:
      window: the last tokens that a query attends to; 0 = all.
    """

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs, *, window: Natural = 0):
        if config.heads % 2 or config.kv_heads % 2:
            raise UserError(
                f"differential attention pairs heads: {config.heads} heads, {config.kv_heads} key/value heads",
                where="config.model.heads, config.model.kv_heads",
                allowed="even numbers",
            )
        self.q, self.k, self.v, self.out = heads_in_and_out(config, rngs)
        self.lambdas = nnx.Param(0.1 * jax.random.normal(rngs.params(), (4, config.head_dim)))  # q1, k1, q2, k2
        self.scale = nnx.Param(jnp.ones(2 * config.head_dim))
        self.backend = config.attend
        self.spec = AttentionSpec(
            scale=scheme(config).scale(config.head_dim),
            reach=Reach(window=window),
            bias=biased(config.position),
            values=True,
            dropout=config.dropout,
        )
        require(self.backend, self.spec.features)

    def __call__(self, x_BTD: jax.Array, where: Where, cache: Ring | None = None) -> tuple[jax.Array, Ring | None]:
        q_BNTH, k_BKSH, v_BKSH = (linear(x_BTD).swapaxes(1, 2) for linear in (self.q, self.k, self.v))
        at_BT = where.queries(x_BTD.shape[1]).position_BT
        q_BNTH, k_BKSH = where.position.rotate(q_BNTH, at_BT), where.position.rotate(k_BKSH, at_BT)
        if cache is not None:
            cache = cache.append(where, k=k_BKSH, v=v_BKSH)
            k_BKSH, v_BKSH = cache["k"], cache["v"]
        v_BKSJ = jnp.concatenate([v_BKSH[:, 0::2], v_BKSH[:, 1::2]], axis=-1)
        first_BNTJ, second_BNTJ = (
            attend(
                self.backend,
                self.spec,
                q_BNTH[:, i::2],
                k_BKSH[:, i::2],
                v_BKSJ,
                where,
                Extras(EveryOther(where.position, i) if self.spec.bias else None),
            )
            for i in (0, 1)
        )
        q1, k1, q2, k2 = self.lambdas[...]
        start = 0.8 - 0.6 * jnp.exp(-0.3 * jnp.asarray(where.layer, jnp.float32))
        weight = jnp.exp(q1 @ k1) - jnp.exp(q2 @ k2) + start
        y_BNTJ = first_BNTJ - weight.astype(q_BNTH.dtype) * second_BNTJ
        y_BNTJ = rms_normed(y_BNTJ.astype(jnp.promote_types(y_BNTJ.dtype, jnp.float32))) * self.scale[...] * (1 - start)
        b, n, t, j = y_BNTJ.shape
        y_BTNH = y_BNTJ.astype(x_BTD.dtype).swapaxes(1, 2).reshape(b, t, 2 * n, j // 2)
        return self.out(y_BTNH), cache

    def init_cache(self, batch: int, length: int, most: int, dtype: jnp.dtype) -> Ring:
        """Room for ``length`` tokens a row, given at most ``most`` at a time: k and v, [B, K, S, H] each."""
        size = self.k.w.shape[1:]
        return ring(batch, self.spec.reach.slots(length, most), dtype, k=size, v=size)
