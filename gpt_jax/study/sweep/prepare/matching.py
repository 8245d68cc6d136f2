"""Arms matched in parameters, FLOPs or time: a knob of each arm is solved for, so that cost explains no difference."""

import dataclasses
import functools
from collections.abc import Callable, Mapping

from gpt_jax.config import Config, value_at
from gpt_jax.data.open import open_data
from gpt_jax.errors import UserError, did_you_mean
from gpt_jax.model import flops
from gpt_jax.study.sweep.sweep import Sweep, resolve
from gpt_jax.train.run import with_vocab

CONVENTION = "causal"  # attention FLOPs count as far as the mask keeps them
TOLERANCE = 0.01
MAX_KNOB = 2**24


def params_of(config: Config) -> float:
    return float(flops.parameters(config.model).total)


def flops_of(config: Config) -> float:
    tokens = config.train.steps * config.train.batch * config.model.context
    return tokens * flops.flops_per_token(config.model, config.model.context, CONVENTION)


COSTS: dict[str, Callable[[Config], float]] = {"params": params_of, "flops": flops_of}
TIMED, STEPS = "seconds", "train.steps"  # the measured cost, and the knob that is solved for
NAMES = (*COSTS, TIMED)


def match(sweep: Sweep, step_seconds: Mapping[str, float] | None = None) -> Sweep:
    """The sweep with ``sweep.knob`` set in every other arm so that it costs what the baseline does, within ``TOLERANCE``.

    The cost, ``sweep.match``, is "params": all parameters; "flops": of the whole training, causal attention counted as
    half; or "seconds": of all steps. The knob is an integer that the cost rises with, such as model.mlp_width,
    model.layers or train.steps; for "seconds" it is train.steps.

    Args:
      step_seconds: by arm, for "seconds" (``step_time.step_seconds``).

    Raises:
      UserError: no such cost, a knob that is not an integer or does not change the cost, or an arm that cannot be matched.
    """
    if sweep.match == TIMED:
        return _by_time(sweep, step_seconds or {})
    by, knob = sweep.match, sweep.knob
    if by not in COSTS:
        raise UserError(f"arms cannot be matched by {by!r}", allowed=", ".join(NAMES), fix=did_you_mean(by, NAMES))
    cost, baseline = COSTS[by], _baseline(sweep)
    vocab = 0

    def made(arm: str, changes: dict) -> Config:
        nonlocal vocab
        config = resolve(sweep.base, arm, {**sweep.arms[arm], **changes})
        vocab = vocab or config.model.vocab or open_data(config).vocab
        return with_vocab(config, vocab)

    def spent(arm: str, value: int) -> float:
        return cost(made(arm, {knob: value}))

    wanted = cost(made(baseline, {}))
    arms, notes = {}, []
    for arm, overrides in sweep.arms.items():
        value = None
        if arm != baseline:
            start = _start(made(arm, {}), knob)
            value = _solve(functools.partial(spent, arm), wanted, start)
        changes = {} if value is None else {knob: value}
        got = cost(made(arm, changes))
        if abs(got / wanted - 1) > TOLERANCE:
            raise UserError(
                f"arm {arm!r} cannot be matched to the baseline's {by}: the nearest is {got / wanted - 1:+.1%}",
                where=f"{knob} = {value}",
                allowed=f"within {TOLERANCE:.1%}",
                fix="match by a finer knob, such as model.mlp_width or train.steps",
            )
        arms[arm] = {**overrides, **changes}
        notes.append(f"{arm}: {by} {got:.4g} ({got / wanted - 1:+.2%})" + (f", {knob} = {value}" if changes else ""))
    return dataclasses.replace(sweep, arms=arms, notes=(*sweep.notes, *notes))


def _baseline(sweep: Sweep) -> str:
    if sweep.baseline is None:
        raise UserError("arms are matched to a baseline, and there is none", where="Sweep.baseline")
    return sweep.baseline


def _by_time(sweep: Sweep, step_seconds: Mapping[str, float]) -> Sweep:
    baseline = _baseline(sweep)
    steps = {arm: resolve(sweep.base, arm, overrides).train.steps for arm, overrides in sweep.arms.items()}
    wanted = steps[baseline] * step_seconds[baseline]
    arms, notes = {}, []
    for arm, overrides in sweep.arms.items():
        count = steps[arm] if arm == baseline else max(1, round(wanted / step_seconds[arm]))
        arms[arm] = dict(overrides) if arm == baseline else {**overrides, STEPS: count}
        notes.append(f"{arm}: {count} steps of {step_seconds[arm] * 1e3:.4g} ms, {count * step_seconds[arm]:.4g} s")
    return dataclasses.replace(sweep, arms=arms, notes=(*sweep.notes, *notes))


def _start(config: Config, knob: str) -> int:
    value = value_at(config, knob)
    if isinstance(value, bool) or not isinstance(value, int):
        raise UserError(f"{knob} = {value!r} cannot be solved for", allowed="a knob whose values are integers")
    return max(value, 1)


def _solve(cost: Callable[[int], float], wanted: float, start: int) -> int:
    """The integer whose cost is nearest to ``wanted``; costs rise with it."""
    low, high = 1, start
    while cost(high) < wanted:
        low, high = high, 2 * high
        if high > MAX_KNOB:
            raise UserError("the cost does not rise with the knob", where=f"{high:,}")
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if cost(middle) >= wanted else (middle, high)
    return min((low, high), key=lambda n: abs(cost(n) - wanted))
