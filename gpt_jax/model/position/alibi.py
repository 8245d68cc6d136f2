"""Attention with linear biases."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from gpt_jax.config import ModelConfig
from gpt_jax.model.position import Position, back
from gpt_jax.model.where import Tokens
from gpt_jax.registry import register


@register("model.position", "alibi")
class Alibi(Position):
    """Scores fall by slope * distance, with a fixed slope per head (Press et al. 2021, section 3)."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
        self.heads = config.heads

    def bias(self, queries: Tokens, keys: Tokens) -> jax.Array:
        return -jnp.asarray(slopes(self.heads))[:, None, None] * back(queries, keys)[:, None].astype(jnp.float32)


def slopes(heads: int) -> np.ndarray:
    """2^(-8 i / heads) for i = 1 … heads; where heads is no power of 2, those of the next lower power, then every other
    one of the next higher, as the paper's code has it. float32 [N]."""
    lower = 2 ** int(np.log2(heads))
    first = 2.0 ** (-8 * np.arange(1, lower + 1) / lower)
    rest = 2.0 ** (-8 * np.arange(1, 2 * lower + 1, 2) / (2 * lower))
    return np.concatenate([first, rest[: heads - lower]]).astype(np.float32)
