"""Arms that are chosen by what the arms before them came to: Bayesian search by Optuna.

A search is started again as it went before: its proposals follow from its seed and from finished runs.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gpt_jax.errors import UserError
from gpt_jax.study.sweep.arms import LogUniform
from gpt_jax.study.sweep.results import SweepResults
from gpt_jax.study.sweep.sweep import Sweep

Space = Mapping[str, LogUniform | Sequence[Any]]
TRIAL = "trial "
RANDOM = 10  # trials drawn at random before a model proposes any


@dataclass(frozen=True)
class Search:
    """What ``Sweep(search=…)`` is given.

    Args:
      space: dotted knob -> ``log_uniform(low, high)``, or the values that it may have.
      trials: arms in all, beside those that the sweep names.
      at_once: arms proposed together, before any of them is known; their runs are trained side by side.
      seed: of the proposals.
    """

    space: Space
    trials: int
    at_once: int = 4
    seed: int = 0


def rounds(sweep: Sweep, results: Callable[[], Mapping[str, float]]) -> Iterator[Sweep]:
    """The sweep with the arms known so far; whoever asks for the next round has trained them.

    Args:
      results: arm -> mean of the metric, of the arms all of whose runs are done.

    Raises:
      UserError: Optuna is missing, or a search that cannot be.
    """
    if sweep.search is None:
        yield sweep
        return
    search, arms = sweep.search, dict(sweep.arms)
    _check(sweep)
    optuna = _optuna()
    sampler = optuna.samplers.TPESampler(seed=search.seed, n_startup_trials=RANDOM, constant_liar=True)
    study = optuna.create_study(direction="minimize", sampler=sampler)
    for begin in range(0, search.trials, search.at_once):
        asked: dict[str, Any] = {}
        for number in range(begin, min(begin + search.at_once, search.trials)):
            trial = asked[f"{TRIAL}{number}"] = study.ask()
            arms[f"{TRIAL}{number}"] = {knob: _suggest(trial, knob, axis) for knob, axis in search.space.items()}
        yield replace(sweep, arms=dict(arms))
        found = results()
        for name, trial in asked.items():
            value = found.get(name, math.nan)
            if math.isfinite(value):
                study.tell(trial, value)
            else:
                study.tell(trial, state=optuna.trial.TrialState.FAIL)


def describe(results: SweepResults) -> str:
    """The trial of the lowest metric, in words; empty where there is none."""
    done = {arm: value for arm, value in results.means().items() if arm.startswith(TRIAL) and math.isfinite(value)}
    if not done:
        return ""
    arm = min(done, key=lambda arm: done[arm])
    knobs = ", ".join(f"{knob} = {value}" for knob, value in results.arms[arm].items())
    return f"best of {len(done)}: {arm}, {results.metric} {done[arm]:.4f}: {knobs}"


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
        raise UserError("a search goes with neither looks, halvings nor matched arms", where="Sweep.search")
    if sweep.baseline is not None and sweep.baseline not in sweep.arms:
        raise UserError(
            "the trials of a search are compared with an arm that the sweep names, and there is none",
            where="Sweep.arms",
            fix="name one, or baseline=None",
        )


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise UserError("a search needs Optuna", where="Sweep.search", fix="pip install optuna") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
