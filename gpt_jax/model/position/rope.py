"""Rotary positions: queries and keys rotated by angles that grow with the position: scores depend on distances."""

from typing import Annotated

import jax
import jax.numpy as jnp
from flax import nnx

from gpt_jax.config import ModelConfig
from gpt_jax.errors import UserError
from gpt_jax.limits import Limits, Share
from gpt_jax.model.position import Position
from gpt_jax.model.position.scaling import WHERE, frequencies, scaling_of
from gpt_jax.registry import register


@register(
    "model.position",
    "rope",
    examples=(
        "rope(theta=100.0)",
        "rope(fraction=0.5, interleaved=True, scaling={'kind': 'yarn', 'factor': 2.0})",
    ),
    typical="rope",
)
class Rope(Position):
    """Pairs of channels rotated by position * theta^(-2i/R) (Su et al. 2021, section 3.2.2), R = fraction * head_dim.

    Args:
      fraction: of each head's channels that are rotated (GPT-J: 64 of 256; Pythia: 0.25); the first ones.
      interleaved: pairs are neighbours (GPT-J, the paper) rather than channels R/2 apart (GPT-NeoX, Llama).
      scaling: the fields of ``Scaling``, as {"kind": "yarn", "factor": 4.0, "original": 4096}.
    """

    def __init__(
        self,
        config: ModelConfig,
        rngs: nnx.Rngs,
        *,
        theta: Annotated[float, Limits(1, 1e12, above=True)] = 10000.0,
        fraction: Share = 1.0,
        interleaved: bool = False,
        scaling: dict | None = None,
    ):
        self.theta, self.fraction, self.interleaved = theta, fraction, interleaved
        self.scaling = scaling_of(scaling or {}, config.context)
        self.channels(config.head_dim)

    def channels(self, head_dim: int) -> int:
        """How many channels of a head are rotated.

        Raises:
          UserError: not an even number between 2 and all.
        """
        rotated = round(self.fraction * head_dim)
        if rotated % 2 or not 2 <= rotated <= head_dim:
            raise UserError(
                f"rope rotates channels in pairs, and fraction {self.fraction} of a head of {head_dim} is {rotated}",
                where=f"config.model.head_dim, {WHERE}",
                allowed=f"an even number from 2 to {head_dim}",
            )
        return rotated

    def rotate(self, x_BNTH: jax.Array, positions_BT: jax.Array) -> jax.Array:
        rotated = self.channels(x_BNTH.shape[-1])
        frequency_P, size = frequencies(self.theta, rotated, self.scaling)
        angle_B1TP = positions_BT[:, None, :, None].astype(jnp.float32) * frequency_P
        cos_B1TP, sin_B1TP = size * jnp.cos(angle_B1TP), size * jnp.sin(angle_B1TP)
        part = x_BNTH[..., :rotated].astype(jnp.promote_types(x_BNTH.dtype, jnp.float32))
        if self.interleaved:
            a, b = part[..., 0::2], part[..., 1::2]
        else:
            a, b = part[..., : rotated // 2], part[..., rotated // 2 :]
        pair = (a * cos_B1TP - b * sin_B1TP, b * cos_B1TP + a * sin_B1TP)
        out = jnp.stack(pair, -1).reshape(part.shape) if self.interleaved else jnp.concatenate(pair, -1)
        return jnp.concatenate([out.astype(x_BNTH.dtype), x_BNTH[..., rotated:]], axis=-1)
