"""The weights that multiply as matrices, and which of their axes are inputs: what low-rank changes are made from."""

import dataclasses
import functools
from dataclasses import dataclass
from typing import Any

from flax import nnx

from gpt_jax.config import ModelConfig
from gpt_jax.model import gpt
from gpt_jax.model.linear import Linear
from gpt_jax.model.mlp.experts import ExpertLinear

EMBEDDING, READOUT = "embed/tokens/w", "readout/w"


@dataclass(frozen=True)
class Matrix:
    """A weight of shape (*experts, *inputs, *outputs), after the axis of layers where they are stacked.

    Attributes:
      experts, inputs: how many axes these are.
      lookup: whether its input is an index into its rows.
    """

    experts: int
    inputs: int
    lookup: bool = False


@functools.lru_cache
def matrices(model: ModelConfig) -> dict[str, Matrix]:
    """Path in the stacked layout -> what is known of the weight: of every linear layer, every layer of experts, the token
    embedding and a readout of its own."""
    scanned = dataclasses.replace(model, scan=True)
    abstract: Any = nnx.eval_shape(lambda: gpt.GPT(scanned, nnx.Rngs(params=0)))
    found = {EMBEDDING: Matrix(0, 1, lookup=True)} | ({} if model.tied else {READOUT: Matrix(0, 1)})
    for path, module in nnx.iter_modules(abstract):
        if isinstance(module, Linear | ExpertLinear):
            name = "/".join([*map(str, path), "w"])
            found[name] = Matrix(0, module.rank_in) if isinstance(module, Linear) else Matrix(1, 1)
    return found
