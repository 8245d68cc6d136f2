"""Arms of a sweep, name -> {dotted knob: value}, made by small combinators.

chain({"baseline": {}}, grid({"model.attention": ["full(qk_norm='rms')", "differential"]}))
"""

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from gpt_jax.errors import UserError

Overrides = dict[str, Any]
Arms = dict[str, Overrides]
Axes = Mapping[str, Sequence[Any]]


def grid(axes: Axes) -> Arms:
    """Every combination of the axes' values."""
    return _named(axes, itertools.product(*axes.values()))


def zipped(axes: Axes) -> Arms:
    """One arm for the first values of all axes, one for the second values, …

    Raises:
      UserError: the axes differ in length.
    """
    if len({len(values) for values in axes.values()}) > 1:
        lengths = ", ".join(f"{key}: {len(values)}" for key, values in axes.items())
        raise UserError("zipped axes differ in length", where=lengths, fix="give each as many values, or use grid")
    return _named(axes, zip(*axes.values(), strict=True))


def one_at_a_time(axes: Axes) -> Arms:
    """The baseline, and for each value of each axis the baseline with that value alone."""
    return chain({"baseline": {}}, *(grid({key: values}) for key, values in axes.items()))


def sample(axes: Mapping[str, Callable[[np.random.Generator], Any]], count: int, seed: int = 0) -> Arms:
    """``count`` draws: each axis is a function of a random generator, such as ``log_uniform(1e-4, 1e-2)``."""
    random = np.random.default_rng(seed)
    return _named(axes, [[draw(random) for draw in axes.values()] for _ in range(count)])


@dataclasses.dataclass(frozen=True)
class LogUniform:
    """A log-uniform distribution, rounded to four digits."""

    low: float
    high: float

    def __call__(self, random: np.random.Generator) -> float:
        return float(f"{np.exp(random.uniform(np.log(self.low), np.log(self.high))):.4g}")


def log_uniform(low: float, high: float) -> LogUniform:
    """An axis of ``sample``, or of a search.

    Raises:
      UserError: not 0 < low < high.
    """
    if not 0 < low < high:
        raise UserError(f"log_uniform({low}, {high})", allowed="0 < low < high")
    return LogUniform(low, high)


def chain(*sets: Arms) -> Arms:
    """The arms of all sets.

    Raises:
      UserError: two arms have one name.
    """
    arms: Arms = {}
    for name, overrides in itertools.chain.from_iterable(part.items() for part in sets):
        if name in arms:
            raise UserError(f"two arms are called {name!r}", fix="give them different names")
        arms[name] = overrides
    return arms


def cross(first: Arms, second: Arms) -> Arms:
    """Every arm of ``first`` combined with every arm of ``second``; where both set a knob, ``second`` wins."""
    return {f"{a}, {b}": {**overrides, **more} for a, overrides in first.items() for b, more in second.items()}


def _named(axes: Mapping[str, Any], rows) -> Arms:
    """Arms named by their values; a value that is not a string is written knob=value."""
    return chain(*({", ".join(map(_label, axes, row)): dict(zip(axes, row, strict=True))} for row in rows))


def _label(knob: str, value: Any) -> str:
    return value if isinstance(value, str) else f"{knob.rpartition('.')[2]}={value}"
