"""FIRE: a small network from the relative distance to a bias."""

import jax
import jax.numpy as jnp
from flax import nnx

from gpt_jax.config import ModelConfig
from gpt_jax.model.position import Position
from gpt_jax.model.where import Tokens
from gpt_jax.registry import register

HIDDEN = 32


@register("model.position", "fire")
class Fire(Position):
    """bias[t, s] = mlp(psi(t - s) / psi(max(L, t))), psi(x) = log(c x + 1), c and L trained (Li et al. 2023, section 3).

    The quotient lies between 0 and 1 whatever the length. All layers share one network.
    """

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
        self.up = nnx.Param(jax.random.normal(rngs.params(), (HIDDEN,)))
        self.up_bias = nnx.Param(jnp.zeros(HIDDEN))
        self.down = nnx.Param(jax.random.normal(rngs.params(), (HIDDEN, config.heads)) / HIDDEN**0.5)
        self.slope = nnx.Param(jnp.full((), 0.1))  # c, the paper's code starts there
        self.length = nnx.Param(jnp.full((), 512.0))  # L

    def bias(self, queries: Tokens, keys: Tokens) -> jax.Array:
        def psi(x):
            return jnp.log(jnp.abs(self.slope[...]) * x + 1)

        t_BT1 = queries.position_BT[:, :, None].astype(jnp.float32)
        back_BTS = (t_BT1 - keys.position_BT[:, None, :]).clip(0)
        share_BTS = psi(back_BTS) / psi(jnp.maximum(jnp.abs(self.length[...]), t_BT1))
        hidden_BTSR = jax.nn.relu(share_BTS[..., None] * self.up[...] + self.up_bias[...])
        return jnp.einsum("BTSR,RN->BNTS", hidden_BTSR, self.down[...])
