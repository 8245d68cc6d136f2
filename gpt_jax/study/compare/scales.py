"""The scales in which values are averaged and intervals made, so that these hold no impossible value."""

import dataclasses
from collections.abc import Callable, Iterable

import numpy as np
import scipy

from gpt_jax.errors import UserError, did_you_mean


@dataclasses.dataclass(frozen=True)
class Scale:
    """A monotone map of the values ``low`` to ``high`` (neither included) to all numbers, and back."""

    low: float
    high: float
    there: Callable
    back: Callable

    def of(self, values: Iterable[float], where: str) -> list[float]:
        """Values on the scale; those that are not finite as they are.

        Raises:
          UserError: a value that the scale has no place for.
        """
        found = np.asarray(list(values), float)
        outside = found[np.isfinite(found) & ~((found > self.low) & (found < self.high))]
        if len(outside):
            raise UserError(
                f"{outside[0]:g} has no place on its scale",
                where=where,
                allowed=f"values above {self.low:g}" + (f" and below {self.high:g}" if self.high < np.inf else ""),
                fix="count what has to be counted with half an observation more on each side, or take the scale plain",
            )
        return np.where(np.isfinite(found), self.there(np.where(np.isfinite(found), found, 0.5)), np.nan).tolist()

    def bound(self, value: float) -> float:
        """An end of a range on the scale: infinite where no value can be beyond it."""
        if value <= self.low:
            return -np.inf
        return np.inf if value >= self.high else float(self.there(value))


SCALES = {
    "plain": Scale(-np.inf, np.inf, lambda x: x, lambda x: x),
    "log": Scale(0.0, np.inf, np.log, np.exp),  # of positive quantities
    "logit": Scale(0.0, 1.0, scipy.special.logit, scipy.special.expit),  # of shares
}


def scale(name: str) -> Scale:
    """One of ``SCALES``.

    Raises:
      UserError: there is none of this name.
    """
    if name not in SCALES:
        raise UserError(f"there is no scale {name!r}", allowed=", ".join(SCALES), fix=did_you_mean(name, SCALES))
    return SCALES[name]
