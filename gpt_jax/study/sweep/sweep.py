"""A sweep: arms x seeds of one base configuration, each a run under a name made of its content."""

import dataclasses
import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from gpt_jax import configs, registry
from gpt_jax.config import Config, value_at
from gpt_jax.configs import base as defaults
from gpt_jax.errors import UserError, did_you_mean
from gpt_jax.judge import evaluate
from gpt_jax.judge.opened import names_of
from gpt_jax.overrides import changed, plain
from gpt_jax.study.sweep import starts
from gpt_jax.study.sweep.arms import Arms
from gpt_jax.user_code import load_module, naming_errors_of

# The A/A arm: the baseline with train.seed raised by this number, and nothing else changed.
NOISE, NOISE_SEED = "A/A", 10_000
SAME_DATA = ("data.source", "data.tokenizer", "data.valid_fraction")


def _are(*kinds: type) -> Callable[[Any], bool]:
    """Whether a value is a sequence of numbers of these kinds."""
    return lambda values: isinstance(values, Iterable) and all(isinstance(v, kinds) for v in values)


# An experiment is Python, so that each may be anything: (field, whether a value is of its type, what is).
_FIELDS: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
    ("base", lambda given: isinstance(given, Mapping | ConfigDict), "a configuration, as base.get_config() returns"),
    (
        "arms",
        lambda given: (
            isinstance(given, Mapping) and all(isinstance(overrides, Mapping) for overrides in given.values())
        ),
        "name -> {dotted knob: value}",
    ),
    ("seeds", _are(Integral), "different integers, 0 or more"),
    ("tune_seeds", _are(Integral), "different integers, 0 or more"),
    ("looks", _are(Integral), "numbers of seeds"),
    ("halve", _are(Real), "shares of the training, such as (0.25, 0.5)"),
    ("margin", lambda given: isinstance(given, int | float) and 0 <= given < math.inf, "0 or more"),
)


@dataclasses.dataclass(frozen=True)
class Sweep:
    """What an experiment's ``sweep()`` returns.

    Args:
      base: the settings shared by all arms, such as ``configs/quickstart.py`` returns.
      arms: name -> {dotted knob: value}. The value "arm:NAME" of tune.start begins at the run of that arm with the same
        seed, whose knobs those with the value "start" are; see ``starts``.
      seeds: every arm is trained with each, as ``train.seed`` and ``data.seed``: runs of one seed see the same batches,
        and start from the same values where shapes allow.
      baseline: the arm that every other arm is compared with; empty = the first. None = no such comparisons: the arms may
        have different data, and ``analyse`` draws the conclusions.
      metric: what is compared, a name of summary.json's "final"; the objective says whether less of it is better.
      margin: the equivalence margin: differences of the metric smaller than this do not matter.
      match: "params", "flops" or "seconds": ``knob`` of every other arm is solved for, so that it costs what the baseline
        does. For "seconds", measured by short runs beforehand, the knob is train.steps.
      tune: a knob, such as "optim.lr", that is tuned for every arm before, on ``tune_seeds`` (``prepare.tuning``).
      noise: adds the arm "A/A": the baseline, or the arm of this name, on the same batches from other initial values. Its
        difference from that is due to chance alone.
      looks: the group-sequential looks: numbers of seeds, the last of them all, after each of which arms with a clear
        verdict are stopped early. All looks together keep the error rate of one (``power.spending``).
      halve: successive halving: shares of the training, such as (0.25, 0.5), after each of which the worse half of the
        arms is stopped early.
      search: adds arms that Optuna proposes from the results of earlier ones (``search.Search``).
      question: what the sweep is to answer; the experiment's docstring if not given.
      notes: lines for the head of the report, such as how well arms were matched.
      analyse: the sweep's results, all runs done -> ``ClaimResult``s; the experiment's function of this name if not given.
      draw: the results -> {file name: (matplotlib figure, caption)}; likewise.
    """

    base: Mapping[str, Any]
    arms: Arms
    seeds: Sequence[int] = (0, 1, 2)
    baseline: str | None = ""
    metric: str = "valid/loss"
    margin: float = 0.0
    match: str = ""
    knob: str = "model.mlp_width"
    tune: str = ""
    tune_seeds: Sequence[int] = (1000, 1001)
    noise: bool | str = False
    looks: Sequence[int] = ()
    halve: Sequence[float] = ()
    search: Any = None
    question: str = ""
    notes: tuple[str, ...] = ()
    analyse: Callable[..., Any] | None = None
    draw: Callable[..., Any] | None = None

    def __post_init__(self):
        for name, fits, allowed in _FIELDS:
            if not fits(given := getattr(self, name)):
                raise UserError(f"{name} = {given!r}", where=f"Sweep.{name}", allowed=allowed)
        if self.baseline == "" and self.arms:
            object.__setattr__(self, "baseline", next(iter(self.arms)))
        if isinstance(self.noise, str) and self.noise not in self.arms:
            raise UserError(f"there is no arm {self.noise!r}", where="Sweep.noise", allowed=", ".join(self.arms))
        if self.repeated in self.arms and NOISE not in self.arms:
            object.__setattr__(self, "arms", {**self.arms, NOISE: self.arms[self.repeated]})

    @property
    def repeated(self) -> str:
        """The arm that "A/A" repeats; empty where there is none."""
        return self.noise if isinstance(self.noise, str) else (self.baseline or "") * self.noise


@dataclasses.dataclass(frozen=True)
class Job:
    """A run to train. It belongs to several ``arms`` where these resolve to the same settings.

    ``until`` is the step at which it pauses; 0 = its last one. ``after``: the ids of the runs that it needs.
    """

    id: str
    arms: tuple[str, ...]
    seed: int
    config: Config
    until: int = 0
    after: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return f"{self.arms[0]}, seed {self.seed}"


def load(path: Path) -> Sweep:
    """The sweep of an experiment file.

    Raises:
      UserError: no such file, what its code raises, it has no ``sweep()``, or that does not return a Sweep.
    """
    module = load_module(path)
    with naming_errors_of(path, "sweep()"):
        made = module.sweep() if hasattr(module, "sweep") else None
    if not isinstance(made, Sweep):
        raise UserError(
            f"{path} has no function sweep() that returns a Sweep",
            where="--config",
            fix="from gpt_jax.study.sweep import Sweep",
        )
    return dataclasses.replace(
        made,
        question=made.question or (module.__doc__ or "").strip(),
        analyse=made.analyse or getattr(module, "analyse", None),
        draw=made.draw or getattr(module, "draw", None),
    )


def jobs(sweep: Sweep) -> list[Job]:
    """Every run of the sweep once, seed by seed, so that all arms can be compared as early as possible.

    Raises:
      UserError: no arms or seeds, an unknown baseline or knob, a value that the configuration refuses, or arms that cannot
        be compared.
    """
    if not sweep.arms or not sweep.seeds:
        raise UserError("a sweep needs arms and seeds", where=f"{len(sweep.arms)} arms, {len(sweep.seeds)} seeds")
    if len(set(sweep.seeds)) < len(sweep.seeds):
        raise UserError(f"seeds {list(sweep.seeds)}", where="Sweep.seeds", allowed="different integers, 0 or more")
    if sweep.baseline is not None and sweep.baseline not in sweep.arms:
        raise UserError(
            f"there is no arm {sweep.baseline!r}",
            where="Sweep.baseline",
            allowed=", ".join(sweep.arms),
            fix=did_you_mean(sweep.baseline, sweep.arms),
        )
    found: dict[str, Job] = {}
    for seed in sweep.seeds:
        for arm in sweep.arms:
            _plan(sweep, arm, seed, found)
    if sweep.baseline is not None:
        check_comparable(sweep, list(found.values()))
    return list(found.values())


def _plan(sweep: Sweep, arm: str, seed: int, found: dict[str, Job], chain: tuple[str, ...] = ()) -> Job:
    """The run of an arm with a seed, added to those that are found, after the runs that it needs."""
    drawn = seed + NOISE_SEED if sweep.noise and arm == NOISE else seed
    values = changed(sweep.base, {"train.seed": drawn, "data.seed": seed, **sweep.arms[arm]})
    needed = starts.needed(values, sweep.arms, (*chain, arm))
    runs = {name: _plan(sweep, name, seed, found, (*chain, arm)) for name in needed}
    if runs:
        values = starts.begun(values, {name: (job.id, job.config) for name, job in runs.items()})
    config = _resolved(values, arm)
    id = identity(config)
    before = found[id].arms if id in found else ()
    arms = before if arm in before else (*before, arm)
    found[id] = Job(id, arms, seed, config, after=tuple(job.id for job in runs.values()))
    return found[id]


def shared_settings(base: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """dotted knob -> (default of configs/base.py, value in ``base``), of the knobs that differ."""
    default, ours = plain(defaults.get_config()), plain(base)
    pairs = {
        f"{section}.{key}": (default.get(section, {}).get(key), value)
        for section, values in ours.items()
        for key, value in values.items()
    }
    return {knob: (before, value) for knob, (before, value) in pairs.items() if before != value}


def resolve(base: Mapping[str, Any], arm: str, overrides: Mapping[str, Any]) -> Config:
    """The configuration of an arm."""
    return _resolved(changed(base, overrides), arm)


def _resolved(values: Mapping[str, Any], arm: str) -> Config:
    try:
        return configs.settled(values)
    except UserError as refusal:
        raise UserError(
            refusal.what, where=f"arm {arm!r}: {refusal.where}", allowed=refusal.allowed, fix=refusal.fix
        ) from None


def identity(config: Config) -> str:
    """Twelve hexadecimal digits of the configuration's content."""
    return hashlib.sha256(json.dumps(config.to_dict(), sort_keys=True).encode()).hexdigest()[:12]


def lower_is_better(metric: str, planned: Sequence[Job]) -> bool:
    """Of a metric, by what the tasks of the runs say, or their objectives."""
    task, _, figure = metric.removeprefix("valid/").partition("/")
    said = [evaluate.lower_is_better(job.config.eval.tasks, task, figure) for job in planned if figure]
    if known := [lower for lower in said if lower is not None]:
        return known[0]
    calls = {job.config.tune.objective for job in planned}
    objectives = [registry.build("train.objectives", call, where="config.tune.objective") for call in calls]
    return not any(objective.higher_is_better(metric.removeprefix("valid/")) for objective in objectives)


def check_comparable(sweep: Sweep, planned: Sequence[Job]) -> None:
    """Refuses a comparison whose losses are not of the same text.

    Raises:
      UserError: two arms differ in what they are evaluated on, or in what a token is and the metric is not per byte.
    """
    per_byte = sweep.metric.endswith("bits_per_byte")
    knobs = [knob for knob in SAME_DATA if not (per_byte and knob == "data.tokenizer")]
    task = sweep.metric.removeprefix("valid/").partition("/")[0]
    if any(task in names_of(job.config.eval.tasks) for job in planned):
        knobs = [
            *(knob for knob in knobs if knob != "data.tokenizer"),
            "eval.tasks",
        ]  # right is right, whatever a token is
    for knob in knobs:
        found = {str(value_at(job.config, knob)): job.arms[0] for job in planned}
        if len(found) > 1:
            values = ", ".join(f"{arm}: {value}" for value, arm in found.items())
            raise UserError(
                f"{sweep.metric} of arms that differ in {knob} cannot be compared",
                where=values,
                fix="give all arms the same data, or compare valid/bits_per_byte where only tokens differ",
            )
