"""How rotary frequencies are stretched, so that a model reads further than it was trained to."""

import dataclasses
import math
from collections.abc import Callable
from typing import Annotated, Any

import numpy as np

from gpt_jax import registry
from gpt_jax.errors import UserError, did_you_mean
from gpt_jax.limits import Count, Factor, Limits, Or, Positive

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
      size: what yarn multiplies cosines and sines with instead; 0 = by the factor.
    """

    kind: str = "none"
    factor: Annotated[float, Limits(1, 1e6)] = 1.0
    original: Annotated[Count, Or(0, "model.context")] = 0
    low: Positive = 1.0
    high: Factor = 0.0
    truncate: bool = True
    size: Factor = 0.0


HIGH = {"yarn": 32.0, "llama3": 4.0}  # turns, where none are given


def frequencies(theta: float, rotated: int, scaling: Scaling) -> tuple[np.ndarray, float]:
    """Radians per position of each pair of channels, float32 [rotated / 2], and the size of cosines and sines."""
    s = scaling
    if s.kind == "ntk":
        theta *= s.factor ** (rotated / max(rotated - 2, 1))
    plain_P = _plain(theta, rotated)
    kept_P = KEPT[s.kind](theta, rotated, s)
    mixed_P = plain_P * kept_P + plain_P / s.factor * (1 - kept_P)
    size = s.size or yarn_size(s.factor, 1.0) if s.kind == "yarn" else 1.0
    return mixed_P.astype(np.float32), size


def yarn_size(factor: float, weight: float) -> float:
    """By how much yarn lengthens queries and keys (Peng et al. 2023, equation 22, as a product of the two)."""
    return 0.1 * weight * math.log(factor) + 1 if factor > 1 else 1.0


def _kept_by_channel(theta: float, rotated: int, s: Scaling) -> np.ndarray:
    def channel(turns):
        return rotated * math.log(s.original / (turns * 2 * math.pi)) / (2 * math.log(theta))

    first, last = channel(s.high), channel(s.low)
    if s.truncate:
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, rotated - 1)
    return 1 - np.clip((np.arange(rotated // 2) - first) / max(last - first, 1e-3), 0, 1)


def _kept_by_turns(theta: float, rotated: int, s: Scaling) -> np.ndarray:
    return np.clip((s.original * _plain(theta, rotated) / (2 * math.pi) - s.low) / (s.high - s.low), 0, 1)


def _plain(theta: float, rotated: int) -> np.ndarray:
    return theta ** -(np.arange(0, rotated, 2) / rotated)


# Which share of a frequency stays as it is; the rest is divided by the factor.
KEPT: dict[str, Callable[[float, int, Scaling], Any]] = {
    "none": lambda theta, rotated, s: 1.0,
    "ntk": lambda theta, rotated, s: 1.0,
    "linear": lambda theta, rotated, s: 0.0,
    "yarn": _kept_by_channel,
    "llama3": _kept_by_turns,
}


def scaling_of(values: dict, context: int) -> Scaling:
    known = [field.name for field in dataclasses.fields(Scaling)]
    for key in values:
        if key not in known:
            raise UserError(
                f"rope's scaling has no {key!r}",
                where=WHERE,
                allowed=", ".join(known),
                fix=did_you_mean(key, known),
            )
    values = registry.check_values(Scaling, values, "rope's scaling", WHERE)
    scaling = Scaling(**values)
    scaling = dataclasses.replace(scaling, original=scaling.original or context)
    if scaling.kind not in KEPT:
        raise UserError(
            f"rope has no scaling {scaling.kind!r}",
            where=WHERE,
            allowed=", ".join(KEPT),
            fix=did_you_mean(scaling.kind, KEPT),
        )
    if scaling.kind == "none" and values.keys() - {"kind"}:
        raise UserError(
            f"rope's scaling {values} is of no kind, and would change nothing",
            where=WHERE,
            allowed=f"a kind: {', '.join(kind for kind in KEPT if kind != 'none')}",
            fix=f"for example scaling={ {**values, 'kind': 'yarn'} }",
        )
    if not scaling.high:
        scaling = dataclasses.replace(scaling, high=HIGH[scaling.kind] if scaling.kind in HIGH else scaling.low + 1)
    if scaling.high <= scaling.low:
        raise UserError(f"rope's scaling {values}", where=WHERE, allowed="low below high")
    return scaling
