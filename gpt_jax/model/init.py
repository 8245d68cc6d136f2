"""All initial values: a scheme gives the standard deviation of every role.

| role     | parameter                                            |
|----------|------------------------------------------------------|
| embed    | token embedding                                      |
| position | learned positions                                    |
| linear   | weights that read the residual stream                |
| residual | weights whose output is added to the residual stream |
| readout  | output projection, where it is not the embedding     |

Biases start at 0, norm scales at 1.
"""

import math

import jax
from flax import nnx

from gpt_jax import registry
from gpt_jax.config import ModelConfig
from gpt_jax.registry import register


@register("model.init", "gpt2")
def gpt2(role: str, shape: tuple, config: ModelConfig) -> float:
    """GPT-2: 0.02, positions 0.01 (its released code), and 1/sqrt(2L) of it into the residual stream (section 2.3)."""
    if role == "position":
        return 0.01
    return 0.02 / math.sqrt(2 * config.layers) if role == "residual" else 0.02


def normal(config: ModelConfig, role: str, rngs: nnx.Rngs, shape: tuple) -> jax.Array:
    """A float array of independent normal values with the scheme's deviation for ``role``."""
    std = registry.build("model.init", config.init, role, shape, config, where="config.model.init")
    return std * jax.random.normal(rngs.params(), shape)
