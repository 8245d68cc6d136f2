"""A knob tuned for every arm alike before a sweep, on seeds that are not scored.

Values of an arm are apart by a factor, and its own stands in their middle. While the best is the least or the greatest
that was tried, one beyond is tried, up to ``MOST`` values: no arm is left at the edge of a grid that was made for another.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence

from gpt_jax.config import value_at
from gpt_jax.errors import UserError
from gpt_jax.overrides import changed
from gpt_jax.study.sweep import starts
from gpt_jax.study.sweep.arms import Arms
from gpt_jax.study.sweep.sweep import NOISE, Sweep, resolve

FOLDER = "tuning"  # of the sweep directory, where these runs are kept
FACTOR = 2.0  # between two values; of a learning rate, half of it costs little (docs/protocol.md)
MOST = 9  # values of an arm

Measure = Callable[[Sweep], Mapping[str, float]]  # a sweep -> arm -> its mean cost, the less the better


@dataclasses.dataclass
class Tuned:
    """Values that were tried for an arm, in order, and their mean costs."""

    costs: dict[float, float]

    @property
    def best(self) -> float:
        return min(self.costs, key=lambda value: (self.costs[value], value))

    @property
    def at_end(self) -> bool:
        """Whether the best is the least or the greatest that was tried, so that a better one may lie beyond."""
        return self.best in (min(self.costs), max(self.costs))

    @property
    def beyond(self) -> float | None:
        """The value to try next; None where the best lies between others, or enough were tried."""
        if len(self.costs) >= MOST or not self.at_end or not math.isfinite(self.costs[self.best]):
            return None
        return self.best / FACTOR if self.best == min(self.costs) else self.best * FACTOR


def tuned(sweep: Sweep, measure: Measure) -> Sweep:
    """The sweep with ``sweep.tune`` set to its best value in every arm, and a note of each.

    Args:
      measure: trains a sweep of ``sweep.tune_seeds``.

    Raises:
      UserError: the knob is no positive number, a seed is scored too, or an arm ends nowhere with a finite value.
    """
    _check(sweep)
    arms = {arm: overrides for arm, overrides in sweep.arms.items() if arm != NOISE}
    values = {arm: _start(sweep, arm) for arm in arms}
    asked = {arm: [value / FACTOR, value, value * FACTOR] for arm, value in values.items()}
    while True:
        costs = measure(_sweep_of(sweep, asked))
        found = {arm: Tuned({v: _finite(costs[_name(arm, sweep.tune, v)]) for v in asked[arm]}) for arm in arms}
        more = {arm: beyond for arm, one in found.items() if (beyond := one.beyond) is not None}
        if not more:
            break
        asked = {arm: sorted([*asked[arm], *([more[arm]] if arm in more else [])]) for arm in arms}
    return _settled(sweep, found)


def _settled(sweep: Sweep, found: Mapping[str, Tuned]) -> Sweep:
    arms: Arms = {}
    for arm, overrides in sweep.arms.items():
        one = found[sweep.repeated if arm == NOISE else arm]
        if not math.isfinite(one.costs[one.best]):
            raise UserError(
                f"arm {arm!r} has no finite {sweep.metric} at any {sweep.tune}",
                where=", ".join(f"{value:g}" for value in sorted(one.costs)),
                fix="give the arm a value near one that trains",
            )
        arms[arm] = {**overrides, sweep.tune: one.best}
    notes = [
        f"{arm}: {sweep.tune} = {one.best:g}, the best of {', '.join(f'{value:g}' for value in sorted(one.costs))} over "
        f"the seeds {', '.join(map(str, sweep.tune_seeds))}{', the last that was tried' if one.at_end else ''}"
        for arm, one in found.items()
    ]
    return dataclasses.replace(sweep, arms=arms, tune="", notes=(*sweep.notes, *notes))


def _sweep_of(sweep: Sweep, asked: Mapping[str, Sequence[float]]) -> Sweep:
    begun = [changed(sweep.base, sweep.arms[arm]) for arm in asked]
    needed = {name for values in begun for name in starts.needed(values, sweep.arms, ("",))}
    arms: Arms = {arm: sweep.arms[arm] for arm in needed}  # at their own value, one of those that are tried
    arms |= {
        _name(arm, sweep.tune, value): {**sweep.arms[arm], sweep.tune: value}
        for arm, values in asked.items()
        for value in values
    }
    question = f"Which {sweep.tune} is best for each arm?"
    return Sweep(sweep.base, arms, sweep.tune_seeds, None, sweep.metric, question=question)


def _start(sweep: Sweep, arm: str) -> float:
    value = value_at(resolve(sweep.base, arm, sweep.arms[arm]), sweep.tune)
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise UserError(
            f"{sweep.tune} = {value!r} of arm {arm!r} cannot be tuned",
            where="Sweep.tune",
            allowed="a knob whose value is a positive number, such as optim.lr",
        )
    return float(value)


def _check(sweep: Sweep) -> None:
    changed(sweep.base, {sweep.tune: None})  # the knob exists
    if both := set(sweep.seeds) & set(sweep.tune_seeds):
        raise UserError(
            f"seed {min(both)} is tuned on and scored",
            where="Sweep.tune_seeds",
            allowed="seeds that are not in Sweep.seeds",
        )


def _name(arm: str, knob: str, value: float) -> str:
    return f"{arm}, {knob} {value:g}"


def _finite(cost: float) -> float:
    return cost if math.isfinite(cost) else math.inf
