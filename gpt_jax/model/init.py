"""All initial values and scales: a parametrisation says what every role of parameter starts with and is scaled by.

| role     | parameter                                            | fan in -> fan out      |
|----------|------------------------------------------------------|------------------------|
| embed    | token embedding                                      | V -> D                 |
| position | learned positions                                    | T -> D                 |
| linear   | weights that read the residual stream                | D -> …                 |
| residual | weights whose output is added to the residual stream | … -> D                 |
| readout  | output projection, where it is not the embedding     | D -> V                 |
| router   | the choice of experts                                | D -> E                 |

Biases start at 0, norm scales at 1.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import jax
from flax import nnx

from gpt_jax import registry
from gpt_jax.config import ModelConfig
from gpt_jax.errors import UserError
from gpt_jax.limits import Factor, Heads, Or, Size
from gpt_jax.registry import register


@dataclass(frozen=True)
class Scheme:
    """A parametrisation.

    Args:
      std: (role, fan in, fan out) -> standard deviation of the initial values.
      logits: factor of the logits.
      scale: head dim -> factor of q . k.
      lr: (role, optimizer name) -> factor of the learning rate.
    """

    std: Callable[[str, int, int], float]
    logits: float = 1.0
    scale: Callable[[int], float] = lambda head_dim: head_dim**-0.5
    lr: Callable[[str, str], float] = lambda role, optimizer: 1.0


@register("model.init", "gpt2")
def gpt2(config: ModelConfig, *, std: Factor = 0.02) -> Scheme:
    """0.02, positions 0.01 (GPT-2's released code), and 1/sqrt(2L) of it into the residual stream (Radford et al. 2019,
    section 2.3)."""
    factors = {"position": 0.5, "residual": 1 / math.sqrt(2 * config.layers)}
    return Scheme(lambda role, fan_in, fan_out: std * factors[role] if role in factors else std)


@register("model.init", "normal")
def plain(config: ModelConfig, *, std: Factor = 0.02) -> Scheme:
    """One deviation for all (GPT-1)."""
    return Scheme(lambda role, fan_in, fan_out: std)


@register("model.init", "xavier")
def xavier(config: ModelConfig) -> Scheme:
    """sqrt(2 / (fan in + fan out)) (Glorot & Bengio 2010, equation 16); tables 0.02."""
    return Scheme(lambda role, fan_in, fan_out: 0.02 if role in TABLES else math.sqrt(2 / (fan_in + fan_out)))


@register("model.init", "small")
def small(config: ModelConfig) -> Scheme:
    """sqrt(2 / 5D) (Nguyen & Salazar 2019, equation 5), and 2 / (L sqrt(D)) into the residual stream (GPT-NeoX-20B,
    section 3.3)."""
    residual = 2 / (config.layers * math.sqrt(config.width))
    return Scheme(lambda role, fan_in, fan_out: residual if role == "residual" else math.sqrt(2 / (5 * config.width)))


@register("model.init", "deepnorm")
def deepnorm(config: ModelConfig) -> Scheme:
    """Xavier's, times (8L)^(-1/4) for all but queries and keys (Wang et al. 2022, figure 2); for ``post(deepnorm=True)``.

    Queries and keys are the role "query".
    """
    beta = (8 * config.layers) ** -0.25

    def std(role, fan_in, fan_out):
        if role in TABLES:
            return 0.02
        return math.sqrt(2 / (fan_in + fan_out)) * (1.0 if role == "query" else beta)

    return Scheme(std)


@register("model.init", "mup", examples=("mup(base_width=8)",), typical="mup(base_width=256)")
def mup(
    config: ModelConfig, *, base_width: Size, base_head_dim: Annotated[Heads, Or(0, "head_dim")] = 0, std: Factor = 0.02
) -> Scheme:
    """Maximal update parametrisation (Yang et al. 2022, table 8): learning rates found at ``base_width`` serve any width.

    With m = width / base_width: hidden weights start at std / sqrt(m) and learn at 1/m of the rate with Adam, logits are
    divided by m, scores are q . k / H rather than / sqrt(H). A readout does not start at 0 (appendix D.2 would have it so):
    every token's first gradient is then the same, and moves the small embeddings all one way (docs/model.md). With Muon,
    whose update has the spectral norm of sqrt(max(fan in, fan out)) here, hidden weights learn at 1/sqrt(m) of the rate,
    so that their update's spectral norm keeps to that of the weights (Yang et al. 2023, condition 1). Of a low-rank change
    s A B, A has as many inputs as the width and learns at 1/m, B has as many as the rank and learns at the full rate (Hayou
    et al. 2024, section 4).

    Args:
      base_head_dim: the head dim at which the score scale is the usual one; 0 = this model's.
    """
    m = config.width / base_width
    hidden = {"adamw": 1 / m, "adamw8bit": 1 / m, "lion": 1 / m, "muon": m**-0.5}
    deviation = {
        "linear": m**-0.5,
        "query": m**-0.5,
        "router": m**-0.5,
        "residual": m**-0.5 / math.sqrt(2 * config.layers),
    }
    head_dim = base_head_dim or config.head_dim
    return Scheme(
        std=lambda role, fan_in, fan_out: std * deviation[role] if role in deviation else std,
        logits=1 / m,
        scale=lambda h: math.sqrt(head_dim) / h,
        lr=lambda role, optimizer: _factor(hidden, m, role, optimizer),
    )


def _factor(hidden: dict[str, float], m: float, role: str, optimizer: str) -> float:
    known = _known(hidden, optimizer) if role in (*HIDDEN, "lora") else 1.0
    return 1 / m if role == "lora" else known


def _known(factors: dict[str, float], optimizer: str) -> float:
    if optimizer not in factors:
        raise UserError(
            f"muP does not know how learning rates of {optimizer!r} go with the width",
            where="config.model.init, config.optim.optimizer",
            allowed=", ".join(factors),
        )
    return factors[optimizer]


TABLES = ("embed", "position", "readout")
HIDDEN = ("linear", "query", "residual", "router")
# An adapter's parameters, below the path of the weight that they are about: W + s A B, and its norm (train/adapters).
LORA_A, LORA_B, MAGNITUDE = "lora_a", "lora_b", "magnitude"
# Path regex -> role, for what is trained; the first that is found applies, and what none fits is a "vector".
ROLES = (
    (rf"^blocks/.*/{LORA_A}$", "lora"),
    (r"^embed/tokens/w$", "embed"),
    (r"(^|/)position/", "position"),
    (r"^readout/w$", "readout"),
    (r"/router/w$", "router"),
    (r"/(out|down)/w$", "residual"),
    (r"/w$", "linear"),
)


def role_of(path: str) -> str:
    """The role of a parameter by its path."""
    return next((role for pattern, role in ROLES if re.search(pattern, path)), "vector")


def scheme(config: ModelConfig) -> Scheme:
    """The parametrisation that ``model.init`` names."""
    return registry.build("model.init", config.init, config, where="config.model.init")


def normal(config: ModelConfig, role: str, rngs: nnx.Rngs, shape: tuple, inputs: int = 1) -> jax.Array:
    """A float array of independent normal values with the scheme's deviation for ``role``.

    Args:
      inputs: how many of the axes are inputs; the others are outputs.
    """
    std = scheme(config).std(role, math.prod(shape[:inputs]), math.prod(shape[inputs:]))
    return std * jax.random.normal(rngs.params(), shape)
