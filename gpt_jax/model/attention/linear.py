"""Linear attention: a feature map in place of the softmax, so that the past is a matrix of fixed size."""

import jax
import jax.numpy as jnp
from flax import nnx

from gpt_jax.config import ModelConfig
from gpt_jax.errors import UserError
from gpt_jax.model.attention.full import biased
from gpt_jax.model.linear import Linear, heads_in_and_out
from gpt_jax.model.recurrence import recurrence
from gpt_jax.model.where import Where
from gpt_jax.registry import register


@register("model.attention", "linear")
class LinearAttention(nnx.Module):
    """phi(q) (sum of phi(k) v') / phi(q) (sum of phi(k)), phi = elu + 1 (Katharopoulos et al. 2020, equation 12).

    Rotary positions rotate the features of the numerator only, so that the denominator stays positive (Su et al. 2021,
    equation 19).
    """

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
        refuse_bias("linear", config)
        self.q, self.k, self.v, self.out = heads_in_and_out(config, rngs)

    def __call__(self, x_BTD: jax.Array, where: Where, cache: dict | None = None) -> tuple[jax.Array, dict | None]:
        q_BNTH, k_BNTH, v_BNTH = heads_of(x_BTD, self.q, self.k, self.v)
        q_BNTH, k_BNTH = jax.nn.elu(q_BNTH) + 1, jax.nn.elu(k_BNTH) + 1
        at_BT = where.queries(x_BTD.shape[1]).position_BT
        rotated_q, rotated_k = (where.position.rotate(a, at_BT) for a in (q_BNTH, k_BNTH))
        keep_BNT = jnp.zeros(q_BNTH.shape[:3])
        state, sums = (None, None) if cache is None else (cache["state"], cache["sums"])
        above_BNTH, state = recurrence(rotated_q, rotated_k, v_BNTH, keep_BNT, None, where, state)
        below_BNT1, sums = recurrence(q_BNTH, k_BNTH, jnp.ones_like(v_BNTH[..., :1]), keep_BNT, None, where, sums)
        y_BTNH = (above_BNTH / (below_BNT1 + 1e-6)).astype(x_BTD.dtype).swapaxes(1, 2)
        return self.out(y_BTNH), (None if cache is None else {"state": state, "sums": sums})

    def init_cache(self, batch: int, length: int, most: int, dtype: jnp.dtype) -> dict:
        """{"state": [B, N, H, H], "sums": [B, N, H, 1]}, float32 whatever the length."""
        _, n, h = self.q.w.shape
        return {"state": jnp.zeros((batch, n, h, h)), "sums": jnp.zeros((batch, n, h, 1))}


def heads_of(x_BTD: jax.Array, q: Linear, k: Linear, v: Linear) -> tuple[jax.Array, jax.Array, jax.Array]:
    """q, k and v, [B, N, T, H] each: keys and values repeated for the heads that share them."""
    q_BNTH, k_BKTH, v_BKTH = (linear(x_BTD).swapaxes(1, 2) for linear in (q, k, v))
    groups = q_BNTH.shape[1] // k_BKTH.shape[1]
    return q_BNTH, jnp.repeat(k_BKTH, groups, axis=1), jnp.repeat(v_BKTH, groups, axis=1)


def refuse_bias(name: str, config: ModelConfig) -> None:
    """Raises UserError where positions are biases on scores, which attention without a softmax does not have."""
    if biased(config.position):
        raise UserError(
            f"{name} attention has no scores that the position {config.position!r} could add to",
            where="config.model.position",
            allowed="rope, learned, sinusoidal, none",
        )
