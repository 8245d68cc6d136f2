"""A trained vector per position."""

from typing import ClassVar

import jax
from flax import nnx

from gpt_jax.config import ModelConfig
from gpt_jax.errors import UserError
from gpt_jax.model import init
from gpt_jax.model.linear import spread
from gpt_jax.model.position import Position
from gpt_jax.registry import register


@register("model.position", "learned")
class Learned(Position):
    """A trained vector per position, added to the token's embedding (GPT-1 to GPT-3). There are ``context`` of them."""

    bounded: ClassVar[bool] = True

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
        self.w = nnx.Param(init.normal(config, "position", rngs, (config.context, config.width)))

    def embed(self, x_BTD: jax.Array, positions_BT: jax.Array | None) -> jax.Array:
        w_TD = self.w[...]
        if positions_BT is None and x_BTD.shape[1] > len(w_TD):
            raise UserError(
                f"{x_BTD.shape[1]} tokens, and learned positions for {len(w_TD)}",
                where="config.model.position",
                fix="train with a longer model.context, or with positions that have no table: rope, alibi, sinusoidal",
            )
        if positions_BT is not None:  # rounded after the rows are taken, so that their derivatives add up in float32
            return x_BTD + w_TD[positions_BT].astype(x_BTD.dtype)
        return x_BTD + spread(w_TD[: x_BTD.shape[1]].astype(x_BTD.dtype), x_BTD.shape)
