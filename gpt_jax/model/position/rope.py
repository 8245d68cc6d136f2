"""Rotary positions: queries and keys turned by angles that grow with the position, so that scores see distances."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from gpt_jax.config import ModelConfig
from gpt_jax.errors import UserError, did_you_mean
from gpt_jax.model.position import Position
from gpt_jax.registry import register

WHERE = "config.model.position"


@dataclasses.dataclass(frozen=True)
class Scaling:
    """How a model trained to ``original`` positions reads ``factor`` times as many.

    Args:
      kind: linear: positions / factor (Chen et al. 2023). ntk: theta * factor^(R/(R-2)) (bloc97 2023). yarn: frequencies
        that turn fewer than ``low`` times in ``original`` are divided by factor, those that turn more than ``high``
        times kept, a ramp over the channels between, from and to whole ones if ``truncate`` (gpt-oss: not); cosines and
        sines times 0.1 ln(factor) + 1 (Peng et al. 2023, sections 3.2 and 3.4). llama3: the same with a ramp over turns,
        and cosines and sines as they are (Llama 3.1).
    """

    kind: str = "none"
    factor: float = 1.0
    original: int = 0
    low: float = 1.0
    high: float = 0.0
    truncate: bool = True


HIGH = {"yarn": 32.0, "llama3": 4.0}  # turns, where none are given
KINDS = ("none", "linear", "ntk", *HIGH)


@register("model.position", "rope")
class Rope(Position):
    """Pairs of channels turned by position * theta^(-2i/R) (Su et al. 2021, section 3.2.2), R = fraction * head_dim.

    Args:
      fraction: of each head's channels that turn (GPT-J: 64 of 256; Pythia: 0.25); the first ones.
      interleaved: pairs are neighbours (GPT-J, the paper) rather than channels R/2 apart (GPT-NeoX, Llama).
      scaling: the fields of ``Scaling``, as {"kind": "yarn", "factor": 4.0, "original": 4096}.
    """

    def __init__(
        self,
        config: ModelConfig,
        rngs: nnx.Rngs,
        *,
        theta: float = 10000.0,
        fraction: float = 1.0,
        interleaved: bool = False,
        scaling: dict | None = None,
    ):
        self.theta, self.fraction, self.interleaved = theta, fraction, interleaved
        self.scaling = _scaling(scaling or {}, config.context)
        self.channels(config.head_dim)

    def channels(self, head_dim: int) -> int:
        """How many channels of a head turn.

        Raises:
          UserError: not an even number between 2 and all.
        """
        turned = round(self.fraction * head_dim)
        if turned % 2 or not 2 <= turned <= head_dim:
            raise UserError(
                f"rope turns channels in pairs, and fraction {self.fraction} of a head of {head_dim} is {turned}",
                where=f"config.model.head_dim, {WHERE}",
                allowed=f"an even number from 2 to {head_dim}",
            )
        return turned

    def rotate(self, x_BNTH: jax.Array, positions_BT: jax.Array) -> jax.Array:
        turned = self.channels(x_BNTH.shape[-1])
        frequency_P, size = frequencies(self.theta, turned, self.scaling)
        angle_B1TP = positions_BT[:, None, :, None].astype(jnp.float32) * frequency_P
        cos_B1TP, sin_B1TP = size * jnp.cos(angle_B1TP), size * jnp.sin(angle_B1TP)
        part = x_BNTH[..., :turned].astype(jnp.promote_types(x_BNTH.dtype, jnp.float32))
        if self.interleaved:
            a, b = part[..., 0::2], part[..., 1::2]
        else:
            a, b = part[..., : turned // 2], part[..., turned // 2 :]
        pair = (a * cos_B1TP - b * sin_B1TP, b * cos_B1TP + a * sin_B1TP)
        out = jnp.stack(pair, -1).reshape(part.shape) if self.interleaved else jnp.concatenate(pair, -1)
        return jnp.concatenate([out.astype(x_BNTH.dtype), x_BNTH[..., turned:]], axis=-1)


def frequencies(theta: float, turned: int, scaling: Scaling) -> tuple[np.ndarray, float]:
    """Radians per position of each pair of channels, float32 [turned / 2], and the size of cosines and sines."""
    s = scaling
    if s.kind == "ntk":
        theta *= s.factor ** (turned / max(turned - 2, 1))
    plain_P = theta ** -(np.arange(0, turned, 2) / turned)
    if s.kind in ("none", "ntk"):
        kept_P = np.ones_like(plain_P)
    elif s.kind == "linear":
        kept_P = np.zeros_like(plain_P)
    elif s.kind == "yarn":
        kept_P = _kept_by_channel(theta, turned, s)
    else:
        kept_P = np.clip((s.original * plain_P / (2 * math.pi) - s.low) / (s.high - s.low), 0, 1)
    mixed_P = plain_P * kept_P + plain_P / s.factor * (1 - kept_P)
    size = 0.1 * math.log(s.factor) + 1 if s.kind == "yarn" and s.factor > 1 else 1.0
    return mixed_P.astype(np.float32), size


def _kept_by_channel(theta: float, turned: int, s: Scaling) -> np.ndarray:
    def channel(turns):
        return turned * math.log(s.original / (turns * 2 * math.pi)) / (2 * math.log(theta))

    first, last = channel(s.high), channel(s.low)
    if s.truncate:
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, turned - 1)
    return 1 - np.clip((np.arange(turned // 2) - first) / max(last - first, 1e-3), 0, 1)


def _scaling(values: dict, context: int) -> Scaling:
    known = [field.name for field in dataclasses.fields(Scaling)]
    for key in values:
        if key not in known:
            raise UserError(
                f"rope's scaling has no {key!r}",
                where=WHERE,
                allowed=", ".join(known),
                fix=did_you_mean(key, known),
            )
    scaling = Scaling(**{"original": context, **values})
    if scaling.kind not in KINDS:
        raise UserError(
            f"rope has no scaling {scaling.kind!r}",
            where=WHERE,
            allowed=", ".join(KINDS),
            fix=did_you_mean(scaling.kind, KINDS),
        )
    if not scaling.high:
        scaling = dataclasses.replace(scaling, high=HIGH[scaling.kind] if scaling.kind in HIGH else scaling.low + 1)
    if scaling.factor < 1 or scaling.original < 1 or scaling.high <= scaling.low:
        raise UserError(
            f"rope's scaling {values}", where=WHERE, allowed="factor 1 or more, original 1 or more, low below high"
        )
    return scaling
