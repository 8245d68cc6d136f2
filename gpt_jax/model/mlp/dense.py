"""Dense feed-forward networks; one variant per activation."""

from collections.abc import Callable
from typing import Annotated

import jax
from flax import nnx

from gpt_jax.config import ModelConfig
from gpt_jax.limits import Or, Rows
from gpt_jax.model.linear import Linear
from gpt_jax.model.mlp.activations import ACTIVATIONS, GATES
from gpt_jax.model.where import Where
from gpt_jax.registry import register


class MLP(nnx.Module):
    """down(activation(up(x))), or down(unit(gate(x), up(x))) (Shazeer 2020, equation 6).

    Args:
      name: of the activation, in ``ACTIVATIONS`` or ``GATES``.
      width: of the hidden layer, F; 0 = ``model.mlp_width``.
    """

    def __init__(self, name: str, config: ModelConfig, rngs: nnx.Rngs, width: int):
        hidden = (width or config.mlp_width,)
        self.name = name
        self.up = Linear((config.width,), hidden, config, rngs, "mlp")
        self.gate = Linear((config.width,), hidden, config, rngs, "mlp") if name in GATES else None
        self.down = Linear(hidden, (config.width,), config, rngs, "mlp", "residual")

    def __call__(self, x_BTD: jax.Array, where: Where) -> tuple[jax.Array, dict]:
        if self.gate is None:
            return self.down(ACTIVATIONS[self.name](self.up(x_BTD))), {}
        return self.down(GATES[self.name](self.gate(x_BTD), self.up(x_BTD))), {}


def _variant(name: str) -> Callable:
    def variant(config: ModelConfig, rngs: nnx.Rngs, *, width: Annotated[Rows, Or(0, "model.mlp_width")] = 0) -> MLP:
        return MLP(name, config, rngs, width)

    return register("model.mlp", name)(variant)


for _name in (*ACTIVATIONS, *GATES):
    _variant(_name)
