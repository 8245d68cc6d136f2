"""Sines and cosines of the position, added to the embedding."""

from typing import Annotated

import jax
import jax.numpy as jnp
from flax import nnx

from gpt_jax.config import ModelConfig
from gpt_jax.errors import UserError
from gpt_jax.limits import Limits, Signed
from gpt_jax.model.position import Position
from gpt_jax.registry import register


@register("model.position", "sinusoidal")
class Sinusoidal(Position):
    """PE(t, 2i) = sin(t / base^(2i/D)), PE(t, 2i+1) = cos(t / base^(2i/D)) (Vaswani et al. 2017, section 3.5).

    Args:
      scale: of these vectors. They are of size 1, so with embeddings of 0.02 they drown the tokens at first; the paper
        scales the embeddings up by sqrt(D) instead (``model.embed_scale``).
    """

    def __init__(
        self,
        config: ModelConfig,
        rngs: nnx.Rngs,
        *,
        base: Annotated[float, Limits(1, 1e12, above=True)] = 10000.0,
        scale: Signed = 1.0,
    ):
        if config.width % 2:
            raise UserError(
                f"sinusoidal positions come in pairs, and model.width = {config.width}",
                where="config.model.width",
                allowed="an even number",
            )
        self.base, self.scale = base, scale

    def embed(self, x_BTD: jax.Array, positions_BT: jax.Array | None) -> jax.Array:
        if positions_BT is None:
            positions_BT = jnp.arange(x_BTD.shape[1])[None]
        table_BTD = self.scale * table(positions_BT, x_BTD.shape[2], self.base)
        return x_BTD + table_BTD.astype(x_BTD.dtype)


def table(positions_BT: jax.Array, width: int, base: float) -> jax.Array:
    """The sinusoids of positions, float32 [B, T, D], sines at even channels."""
    frequency_P = base ** (-jnp.arange(0, width, 2, dtype=jnp.float32) / width)
    angle_BTP = positions_BT[..., None].astype(jnp.float32) * frequency_P
    return jnp.stack([jnp.sin(angle_BTP), jnp.cos(angle_BTP)], axis=-1).reshape(*positions_BT.shape, width)
