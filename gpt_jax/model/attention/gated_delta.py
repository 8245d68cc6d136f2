"""Gated delta rule: linear attention whose writes replace the value stored under their key, with a learned decay."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from gpt_jax.config import ModelConfig
from gpt_jax.model.attend import wide
from gpt_jax.model.attention.linear import heads_of, refuse_bias
from gpt_jax.model.linear import Linear, heads_in_and_out
from gpt_jax.model.norm import l2_normed, rms_normed
from gpt_jax.model.recurrence import recurrence
from gpt_jax.model.where import Where
from gpt_jax.registry import register


@register("model.attention", "gated_delta")
class GatedDelta(nnx.Module):
    """S = a (I - b k k') S + b k v', y = S' q, with a and b from the token (Yang et al. 2024, equation 10).

    Queries and keys have length 1, a = exp(-A softplus(w x + c)) per head, b = sigmoid(w x); outputs are normed head by
    head and gated. The paper's short convolutions are left out.
    """

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
        refuse_bias("gated delta", config)
        d, n, h = (config.width,), config.heads, config.head_dim
        self.q, self.k, self.v, self.out = heads_in_and_out(config, rngs)
        self.gate = Linear(d, (n, h), config, rngs, "gate")
        self.write = Linear(d, (n,), config, rngs, "gate")
        self.forget = Linear(d, (n,), config, rngs, "gate")
        # A from 1 to 16 over the heads, and steps of 0.03 at first: a few to a few hundred tokens are remembered.
        self.log_rate = nnx.Param(jnp.asarray(np.log(np.linspace(1, 16, n)), jnp.float32))
        self.step_bias = nnx.Param(jnp.full(n, np.log(np.expm1(0.03)), jnp.float32))

    def __call__(self, x_BTD: jax.Array, where: Where, cache: dict | None = None) -> tuple[jax.Array, dict | None]:
        q_BNTH, k_BNTH, v_BNTH = heads_of(x_BTD, self.q, self.k, self.v)
        at_BT = where.queries(x_BTD.shape[1]).position_BT
        q_BNTH, k_BNTH = (where.position.rotate(l2_normed(a.astype(wide(a.dtype))), at_BT) for a in (q_BNTH, k_BNTH))
        step_BNT = jax.nn.softplus(self.forget(x_BTD).astype(wide(x_BTD.dtype)) + self.step_bias[...]).swapaxes(1, 2)
        log_decay_BNT = -jnp.exp(self.log_rate[...])[:, None] * step_BNT
        beta_BNT = jax.nn.sigmoid(self.write(x_BTD)).swapaxes(1, 2)
        state = None if cache is None else cache["state"]
        y_BNTH, state = recurrence(q_BNTH, k_BNTH, v_BNTH, log_decay_BNT, beta_BNT, where, state)
        y_BTNH = rms_normed(y_BNTH).astype(x_BTD.dtype).swapaxes(1, 2) * jax.nn.silu(self.gate(x_BTD))
        return self.out(y_BTNH), (None if cache is None else {"state": state})

    def init_cache(self, batch: int, length: int, most: int, dtype: jnp.dtype) -> dict:
        """{"state": [B, N, H, H]}, float32 whatever the length."""
        _, n, h = self.q.w.shape
        return {"state": jnp.zeros((batch, n, h, h))}
