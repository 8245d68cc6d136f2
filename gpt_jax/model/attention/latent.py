"""Multi-head latent attention: keys and values are made from a small latent vector, which is all that is cached."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from gpt_jax.config import ModelConfig
from gpt_jax.errors import UserError
from gpt_jax.limits import Natural, Size
from gpt_jax.model.attend import AttentionSpec, attend, require
from gpt_jax.model.attention.full import biased, rotates
from gpt_jax.model.cache import Ring, ring
from gpt_jax.model.init import scheme
from gpt_jax.model.linear import Linear
from gpt_jax.model.norm import RMSNorm
from gpt_jax.model.where import Where
from gpt_jax.registry import register


@register(
    "model.attention",
    "latent",
    examples=("latent(rank=6, rope_dim=2)", "latent(rank=6, q_rank=4)"),
    typical="latent(rank=256, rope_dim=32)",
)
class LatentAttention(nnx.Module):
    """Low-rank keys, values and queries, and positions on channels of their own (DeepSeek-V2 2024, section 2.1).

    Keys and values of a token are products of its latent c [rank]; ``rope_dim`` channels that all heads share, and as
    many of each query, are rotated by the model's positions. With a cache the products with c are moved to the queries
    and outputs (appendix C), so that c itself serves as key and value and no key is ever made.

    Args:
      rank: of the latent of keys and values.
      rope_dim: channels that carry the position; 0 = none, for positions that are added to the embedding, or none.
      q_rank: of the latent of queries; 0 = queries straight from the residual stream.
    """

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs, *, rank: Size, rope_dim: Natural = 0, q_rank: Natural = 0):
        _check(config, rope_dim)
        heads, d, r = (config.heads, config.head_dim), config.width, (config.heads, rope_dim)
        linear = functools.partial(Linear, config=config, rngs=rngs, place="latent")
        self.q_down = linear((d,), (q_rank,)) if q_rank else None
        self.q_norm: Any = RMSNorm(q_rank, config) if q_rank else None
        self.q = linear((q_rank or d,), heads, role="query")
        self.q_rope = linear((q_rank or d,), r, role="query") if rope_dim else None
        self.down = linear((d,), (rank,))
        self.norm = RMSNorm(rank, config)
        self.k_rope: Any = linear((d,), (rope_dim,), role="query") if rope_dim else None
        self.k = linear((rank,), heads, role="query")
        self.v = linear((rank,), heads)
        self.out = linear(heads, (d,), role="residual")
        self.backend = config.attend
        scale = scheme(config).scale(config.head_dim + rope_dim)
        self.spec = AttentionSpec(scale=scale, values=True, dropout=config.dropout)
        require(self.backend, self.spec.features)

    def __call__(self, x_BTD: jax.Array, where: Where, cache: Ring | None = None) -> tuple[jax.Array, Ring | None]:
        c_BTL = self.norm(self.down(x_BTD))
        source = x_BTD if self.q_down is None else self.q_norm(self.q_down(x_BTD))
        q_BNTH = self.q(source).swapaxes(1, 2)
        rotated_q, rotated_k = self._rotated(source, x_BTD, where)
        if cache is None:
            k_BNTH, v_BNTH = self.k(c_BTL).swapaxes(1, 2), self.v(c_BTL).swapaxes(1, 2)
            if rotated_q is not None:
                q_BNTH = jnp.concatenate([q_BNTH, rotated_q], axis=-1)
                spread = jnp.broadcast_to(rotated_k, (*k_BNTH.shape[:3], rotated_k.shape[-1]))
                k_BNTH = jnp.concatenate([k_BNTH, spread], axis=-1)
            y_BNTH = attend(self.backend, self.spec, q_BNTH, k_BNTH, v_BNTH, where)
            return self.out(y_BNTH.swapaxes(1, 2)), None
        new = {"latent": c_BTL[:, None]} | ({} if rotated_k is None else {"rope": rotated_k})
        cache = cache.append(where, **new)
        w_k_LNH, w_v_LNH = (linear.w[...].astype(x_BTD.dtype) for linear in (self.k, self.v))
        q_BNTL = jnp.einsum("BNTH,LNH->BNTL", q_BNTH, w_k_LNH)
        k_B1SL = cache["latent"]
        if rotated_q is not None:
            q_BNTL = jnp.concatenate([q_BNTL, rotated_q], axis=-1)
            k_B1SL = jnp.concatenate([k_B1SL, cache["rope"]], axis=-1)
        y_BNTL = attend(self.backend, self.spec, q_BNTL, k_B1SL, cache["latent"], where)
        return self.out(jnp.einsum("BNTL,LNH->BTNH", y_BNTL, w_v_LNH)), cache

    def _rotated(self, source, x_BTD, where):
        """The channels that carry positions: of queries [B, N, T, R] and of the one shared key [B, 1, T, R]."""
        if self.q_rope is None:
            return None, None
        at_BT = where.queries(x_BTD.shape[1]).position_BT
        q_BNTR, k_B1TR = self.q_rope(source).swapaxes(1, 2), self.k_rope(x_BTD)[:, None]
        return where.position.rotate(q_BNTR, at_BT), where.position.rotate(k_B1TR, at_BT)

    def init_cache(self, batch: int, length: int, most: int, dtype: jnp.dtype) -> Ring:
        """Room for ``length`` tokens a row: latent and rope, [B, 1, S, rank or rope_dim]."""
        sizes = {"latent": self.down.w.shape[1], "rope": 0 if self.k_rope is None else self.k_rope.w.shape[1]}
        kept = {name: (1, size) for name, size in sizes.items() if size}
        return ring(batch, length, dtype, exact=("rope",), **kept)


def _check(config: ModelConfig, rope_dim: int) -> None:
    if rope_dim % 2:
        raise UserError(
            f"latent(rope_dim={rope_dim}) rotates channels in pairs",
            where="config.model.attention",
            allowed="an even number",
        )
    if biased(config.position):
        raise UserError(
            f"latent attention has channels for positions, and {config.position!r} is a bias on the scores",
            where="config.model.position",
            allowed="rope with rope_dim, or positions added to the embedding (learned, sinusoidal), or none",
        )
    if not rope_dim and rotates(config.position):
        raise UserError(
            f"{config.position!r} rotates channels that latent(rope_dim=0) has not: there would be no positions",
            where="config.model.attention, config.model.position",
            allowed="rope_dim of 2 or more, or positions added to the embedding (learned, sinusoidal), or none",
            fix="for example latent(rank=256, rope_dim=32); or --config.model.position=none",
        )
    if config.kv_heads != config.heads:
        raise UserError(
            f"latent attention makes keys and values for every head, and model.kv_heads = {config.kv_heads}",
            where="config.model.kv_heads",
            allowed=f"0, or {config.heads}",
        )
