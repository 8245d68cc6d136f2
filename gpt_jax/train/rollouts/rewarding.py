"""Rewards of completions: what ``tune.reward`` names, with their weights, and their sum."""

import inspect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gpt_jax import registry
from gpt_jax.config import Config
from gpt_jax.errors import UserError
from gpt_jax.limits import Signed, is_within
from gpt_jax.train.rewards import WHERE, Completion, ReadsRun, Reward
from gpt_jax.train.starting.fixed_models import Held, Pin, Role
from gpt_jax.user_code import naming_errors_of

KIND = "train.rewards"


@dataclass(frozen=True)
class Part:
    """One of several rewards.

    Attributes:
      name: that it is reported by.
      weight: in the sum; with 0 it is reported alone.
      file: that its code is in.
    """

    name: str
    weight: float
    reward: Reward
    file: Path

    def __call__(self, completions: Sequence[Completion]) -> np.ndarray:
        """Of each completion, float64 [N]; NaN where it has none.

        Raises:
          UserError: its code raises, or gives something else than a number for each completion.
        """
        fix = "it may return None for a completion that it cannot judge"
        with naming_errors_of(self.file, f"the reward {self.name}", fix):
            values = list(self.reward(completions))
        if len(values) != len(completions):
            raise UserError(
                f"the reward {self.name} gave {len(values)} values for {len(completions)} completions", where=WHERE
            )
        return np.array([self._number(*pair) for pair in zip(values, completions, strict=True)])

    def _number(self, value: Any, completion: Completion) -> float:
        if value is None:
            return math.nan
        try:
            found = math.nan if isinstance(value, str | bytes) else float(value)
        except (TypeError, ValueError, OverflowError):
            found = math.nan
        if not math.isfinite(found):
            raise UserError(
                f"the reward {self.name} of {completion.text!r:.80} is {value!r:.80}",
                where=WHERE,
                allowed="a finite number, or None where there is none",
            )
        return found


@dataclass(frozen=True)
class Rewards:
    """Several rewards; their names differ."""

    parts: tuple[Part, ...]

    @property
    def held(self) -> list[Held]:
        """The runs that rewards read."""
        return [part.reward.held for part in self.parts if isinstance(part.reward, ReadsRun)]

    @staticmethod
    def of(config: Config, workdir: Path | None = None) -> "Rewards":
        """What ``tune.reward`` names.

        Args:
          workdir: of the run, which holds runs that rewards read to the checkpoints that it began with.

        Raises:
          UserError: it names nothing, no such reward, or weights that are none.
        """
        asked = config.tune.reward
        if not asked:
            raise UserError(
                f"{config.tune.objective} learns from rewards, and none is named",
                where=WHERE,
                allowed='a call, such as exact, or several: ((1.0, "exact"), (0.1, "ended")); there are '
                + ", ".join(registry.names(KIND)),
            )
        parts: list[Part] = []
        for pair in ((1.0, asked),) if isinstance(asked, str) else asked:
            parts.append(_part(*_checked(pair), config, workdir, [part.name for part in parts]))
        if not any(part.weight for part in parts):
            raise UserError(
                f"every weight of {asked!r} is 0", where=WHERE, allowed="one that is not; zero is no reward"
            )
        return Rewards(tuple(parts))

    def __call__(self, completions: Sequence[Completion]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """The sum of each completion's rewards times their weights, float64 [N], and each reward by its name. NaN where one
        that has a weight is None.

        Raises:
          UserError: see ``Part``.
        """
        found: dict[str, np.ndarray] = {}
        total_N = np.zeros(len(completions))
        for part in self.parts:
            found[part.name] = part(completions)
            if part.weight:
                total_N = total_N + part.weight * found[part.name]
        return total_N, found

    def of_some(self, completions: Sequence[Completion]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """The same of completions that are learned from.

        Raises:
          UserError: see ``Part``; or not one of them has a reward.
        """
        total_N, found = self(completions)
        if not np.isfinite(total_N).any():
            empty = [part.name for part in self.parts if part.weight and not np.isfinite(found[part.name]).any()]
            raise UserError(
                f"none of {len(completions)} completions has a reward: {', '.join(empty) or 'some'} is None of each",
                where=WHERE,
                allowed="a reward that reads what the rows have: docs/tuning/rewards.md says which fields",
                fix=f"the fields of the first row are {', '.join(map(str, completions[0].row))}",
            )
        return total_N, found


def _part(weight: float, call: str, config: Config, workdir: Path | None, taken: Sequence[str]) -> Part:
    """``taken``: names of those before. The second of a kind is exact_2."""
    kind, _ = registry.parse(call, WHERE, KIND)
    variant = registry.lookup(KIND, kind, WHERE)
    numbered = (f"{kind}_{number}" if number > 1 else kind for number in range(1, len(taken) + 2))
    name = next(name for name in numbered if name not in taken)
    known = {"config": config, "pin": Pin(Role(f"reward-{name}", WHERE), workdir)}
    given = [known[parameter] for parameter in inspect.signature(variant).parameters if parameter in known]
    code = variant.__call__ if inspect.isclass(variant) else variant  # of a class in a notebook no file is known
    return Part(name, weight, registry.build(KIND, call, *given, where=WHERE), Path(inspect.getfile(code)))


def _checked(pair: Any) -> tuple[float, str]:
    good = isinstance(pair, tuple) and len(pair) == 2 and is_within(pair[0], Signed) and isinstance(pair[1], str)
    if not good:
        raise UserError(f"{pair!r:.80} is no weighted reward", where=WHERE, allowed='(weight, "reward(…)")')
    return float(pair[0]), pair[1]
