"""How a token learns where it stands."""

import jax
from flax import nnx

from gpt_jax.config import ModelConfig
from gpt_jax.model import init
from gpt_jax.registry import register


@register("model.position", "learned")
class Learned(nnx.Module):
    """A trained vector per position, added to the token's embedding (GPT-1 to GPT-3)."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
        self.w = nnx.Param(init.normal(config, "position", rngs, (config.context, config.width)))

    def __call__(self, x_BTD: jax.Array, positions_BT: jax.Array | None) -> jax.Array:
        """positions_BT None means 0, 1, 2, …"""
        w_TD = self.w[...].astype(x_BTD.dtype)
        return x_BTD + (w_TD[None, : x_BTD.shape[1]] if positions_BT is None else w_TD[positions_BT])


@register("model.position", "none")
class Nothing(nnx.Module):
    """No positions: the causal mask alone breaks the symmetry (Kazemnejad et al. 2023)."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
        pass

    def __call__(self, x_BTD: jax.Array, positions_BT: jax.Array | None) -> jax.Array:
        return x_BTD
