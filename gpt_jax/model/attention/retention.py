"""Retention: linear attention that forgets at a fixed rate per head."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from gpt_jax.config import ModelConfig
from gpt_jax.model.attention.linear import heads_of, refuse_bias
from gpt_jax.model.linear import Linear, heads_in_and_out
from gpt_jax.model.norm import rms_normed
from gpt_jax.model.recurrence import recurrence
from gpt_jax.model.where import Where
from gpt_jax.registry import register


@register("model.attention", "retention")
class Retention(nnx.Module):
    """sum over s of decay^(t-s) (q[t] . k[s]) v[s], normed head by head and gated (Sun et al. 2023, equations 5 to 8).

    Head i = 0, 1, … keeps 1 - 2^(-5 - i) of its state per token. The paper rotates queries and keys: use rope.
    """

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
        refuse_bias("retention", config)
        self.q, self.k, self.v, self.out = heads_in_and_out(config, rngs)
        self.gate = Linear((config.width,), (config.heads, config.head_dim), config, rngs, "gate")

    def __call__(self, x_BTD: jax.Array, where: Where, cache: dict | None = None) -> tuple[jax.Array, dict | None]:
        q_BNTH, k_BNTH, v_BNTH = heads_of(x_BTD, self.q, self.k, self.v)
        at_BT = where.queries(x_BTD.shape[1]).position_BT
        q_BNTH, k_BNTH = where.position.rotate(q_BNTH, at_BT), where.position.rotate(k_BNTH, at_BT)
        n, h = q_BNTH.shape[1], q_BNTH.shape[3]
        log_decay_BNT = jnp.broadcast_to(jnp.asarray(_log_decays(n))[:, None], q_BNTH.shape[:3])
        state = None if cache is None else cache["state"]
        y_BNTH, state = recurrence(q_BNTH * h**-0.5, k_BNTH, v_BNTH, log_decay_BNT, None, where, state)
        y_BTNH = rms_normed(y_BNTH).astype(x_BTD.dtype).swapaxes(1, 2) * jax.nn.silu(self.gate(x_BTD))
        return self.out(y_BTNH), (None if cache is None else {"state": state})

    def init_cache(self, batch: int, length: int, most: int, dtype: jnp.dtype) -> dict:
        """{"state": [B, N, H, H]}, float32 whatever the length."""
        _, n, h = self.q.w.shape
        return {"state": jnp.zeros((batch, n, h, h))}


def _log_decays(heads: int) -> np.ndarray:
    return np.log1p(-(2.0 ** (-5 - np.arange(heads)))).astype(np.float32)
