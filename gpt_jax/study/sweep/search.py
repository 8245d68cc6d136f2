"""Bayesian search by Optuna: arms proposed from the results of earlier arms.

A restarted search proposes the same arms: they follow from its seed and from finished runs.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gpt_jax.errors import UserError
from gpt_jax.limits import folded
from gpt_jax.study.sweep.arms import LogUniform
from gpt_jax.study.sweep.results import SweepResults
from gpt_jax.study.sweep.sweep import Sweep

Space = Mapping[str, LogUniform | Sequence[Any]]
TRIAL = "trial "
RANDOM = 10  # trials drawn at random before a model proposes any


@dataclass(frozen=True)
class Search:
    """The search space and budget, for ``Sweep(search=…)``.

    Args:
      space: dotted knob -> ``log_uniform(low, high)``, or a sequence of choices.
      trials: arms to propose in all, beside those that the sweep names.
      at_once: arms proposed before any of them is finished; their runs are trained side by side.
      seed: of the proposals.
    """

    space: Space
    trials: int
    at_once: int = 4
    seed: int = 0


def rounds(sweep: Sweep, results: Callable[[], Mapping[str, float]]) -> Iterator[Sweep]:
    """The sweep with the arms proposed so far; train them before asking for the next round.

    Args:
      results: arm -> mean of what is to be low, of the arms all of whose runs are done.

    Raises:
      UserError: Optuna is missing, or the search is not valid.
    """
    if sweep.search is None:
        yield sweep
        return
    search, arms = sweep.search, dict(sweep.arms)
    _check(sweep)
    optuna = _optuna()
    sampler = optuna.samplers.TPESampler(seed=folded(search.seed), n_startup_trials=RANDOM, constant_liar=True)
    study = optuna.create_study(direction="minimize", sampler=sampler)
    for first in range(0, search.trials, search.at_once):
        proposed: dict[str, Any] = {}
        for number in range(first, min(first + search.at_once, search.trials)):
            trial = proposed[f"{TRIAL}{number}"] = study.ask()
            arms[f"{TRIAL}{number}"] = {knob: _suggest(trial, knob, axis) for knob, axis in search.space.items()}
        yield replace(sweep, arms=dict(arms))
        found = results()
        for name, trial in proposed.items():
            value = found.get(name, math.nan)
            if math.isfinite(value):
                study.tell(trial, value)
            else:
                study.tell(trial, state=optuna.trial.TrialState.FAIL)


def describe(results: SweepResults) -> str:
    """The best trial as text; empty where there is none."""
    done = {arm: value for arm, value in results.means().items() if arm.startswith(TRIAL) and math.isfinite(value)}
    if not done:
        return ""
    arm = min(done, key=lambda arm: results.cost(done[arm]))
    knobs = ", ".join(f"{knob} = {value}" for knob, value in results.arms[arm].items())
    return f"best of {len(done)} trials: {arm}, {results.metric} {done[arm]:.4f}: {knobs}"


def _suggest(trial: Any, knob: str, axis: LogUniform | Sequence[Any]) -> Any:
    if isinstance(axis, LogUniform):
        return float(f"{trial.suggest_float(knob, axis.low, axis.high, log=True):.4g}")
    return axis[trial.suggest_categorical(knob, range(len(axis)))]


def _check(sweep: Sweep) -> None:
    search = sweep.search
    if search.trials < 1 or search.at_once < 1 or not search.space:
        raise UserError(
            f"a search of {search.trials} trials, {search.at_once} at once, over {len(search.space)} knobs",
            where="Sweep.search",
            allowed="1 or more of each",
        )
    if sweep.looks or sweep.halve or sweep.match:
        raise UserError("a search cannot be combined with looks, halve or match", where="Sweep.search")
    if sweep.baseline is not None and sweep.baseline not in sweep.arms:
        raise UserError(
            "the trials of a search are compared with a named baseline arm, and there is none",
            where="Sweep.arms",
            fix="add the arm, or set baseline=None",
        )


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise UserError("a search needs Optuna", where="Sweep.search", fix="pip install optuna") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
