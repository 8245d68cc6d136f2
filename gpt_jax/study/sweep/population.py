"""Runs that differ only in seeds and scalars, trained as one program: the step of one run, vmapped over all.

A small model leaves most of an accelerator idle, and its step waits for the host. Each run keeps its own directory,
records and checkpoints, as if trained alone; its last bits may differ from those of a run trained alone.
"""

import contextlib
import dataclasses
import functools
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from gpt_jax.config import Config
from gpt_jax.errors import Failure
from gpt_jax.train import optim, reference
from gpt_jax.train.checkpoint.directory import DIRECTORY, CheckpointDirectory
from gpt_jax.train.monitors.watchdog import COMPILE, DATA, EVALUATION, RESTORE, SAVE, START, STEP, Phases
from gpt_jax.train.objectives.policy import Policy
from gpt_jax.train.record.recorder import due
from gpt_jax.train.run import Run, open_run
from gpt_jax.train.signals import StopRequest
from gpt_jax.train.step import Batch, Program, State, compile_step, hyper_scalars, objective_of
from gpt_jax.train.trainer import Trainer, read_start

MAX_RUNS = 16  # of a population
TIMED_STEPS = 10
OUT_OF_MEMORY = "RESOURCE_EXHAUSTED"

Jobs = Sequence[tuple[Config, Path]]


class StepMismatch(Failure):
    """A run's checkpoint is at another step than the others'."""


def common_settings(config: Config) -> str:
    """The settings that all runs of a population share, as JSON; empty for a run that has to be trained alone."""
    objective = objective_of(
        config
    )  # whose steps may read parameters that they do not train, or what the policy writes
    reads_more = config.tune.adapter != "none" or objective.teacher or isinstance(objective, Policy)
    if config.train.watch_every or config.train.profile or reads_more:
        return ""
    own: dict[str, Any] = {name: 0.0 for name in optim.hyper_of(config) if name != "steps"}
    common = dataclasses.replace(
        config,
        optim=dataclasses.replace(config.optim, **own),
        train=dataclasses.replace(config.train, seed=0),
        data=dataclasses.replace(config.data, seed=0),
    )
    return common.to_json()


def newest_step(workdir: Path) -> int:
    """The step of a run's newest checkpoint, 0 where there is none."""
    return max(CheckpointDirectory(workdir / DIRECTORY, keep=0, keep_best=False).steps(), default=0)


@dataclasses.dataclass
class Member:
    """A run of the population, its batches, and the error that ended it before the others."""

    trainer: Trainer
    batches: Any
    failure: Exception | None = None


def train(jobs: Jobs, until: int) -> list[Exception | None]:
    """``loop.train`` of every run, as one program on one device: what each raised, or None.

    All start from the checkpoint step of the first one; a run at another step is not trained: ``StepMismatch``.
    """
    phases = Phases()
    failures: list[Exception | None] = [None] * len(jobs)
    with StopRequest() as stop, contextlib.ExitStack() as opened:
        stop.nothing_to_save()
        members: dict[int, Member] = {}
        states, began = [], None
        for i, (config, workdir) in enumerate(jobs):
            try:
                phases.begin(START)
                run = open_run(config, workdir)
                if not members:
                    opened.enter_context(jax.set_mesh(run.mesh))
                began = began or read_start(run)  # once for all
                phases.begin(RESTORE)
                trainer, state = opened.enter_context(Trainer.open(run, stop, phases, len(jobs), began))
                if members and trainer.start != next(iter(members.values())).trainer.start:
                    raise StepMismatch(f"the run is at step {trainer.start}")
            except Exception as failure:
                failures[i] = failure
                continue
            members[i] = Member(trainer, trainer.run.data.train.batches(config.train.batch, config.data.seed))
            states.append(state)
        began = None  # the states have it
        if members:
            _train(list(members.values()), states, until)
        return [members[i].failure if i in members else failures[i] for i in range(len(jobs))]


def _train(members: list[Member], states: list[State], until: int) -> None:
    steps = members[0].trainer.run.config.train.steps
    last = min(until or steps, steps)
    program = _compiled(members[0].trainer.run.program)
    state_P = program.stack(states)
    states.clear()
    members[0].trainer.recorder.phases.begin(EVALUATION)
    _each(members, lambda i, trainer: trainer.evaluate_if_missed(program.member(state_P, i), last))
    end_P, step = _steps(members, program, state_P, last)
    members[0].trainer.stop.wait_for_steps()
    _each(members, lambda i, trainer: trainer.finish(program.member(end_P, i), step, last))


def _each(members: list[Member], act: Callable[[int, Trainer], Any]) -> None:
    """Calls ``act`` for every run that has not failed. An error ends its own run alone."""
    for i, member in enumerate(members):
        if member.failure is None:
            try:
                act(i, member.trainer)
            except Exception as failure:
                member.failure = failure


def _steps(members: list[Member], program: "_Vmapped", state_P: State, last: int) -> tuple[State, int]:
    """The loop of ``train/loop.py``, for all members at once."""
    first = members[0].trainer
    settings, stop, phases = first.run.config.train, first.stop, first.recorder.phases
    hyper_P = _stacked([member.trainer.recorder.hyper for member in members])
    unrecorded: tuple = ()
    for k in range(first.start, last):
        phases.begin(DATA, k)
        batches = [member.batches[k] for member in members]
        batch_P = _stacked(batches)
        if unrecorded and not unrecorded[1]["loss"].is_ready():
            phases.rename(STEP)  # the devices were at work
        if k == first.start:
            phases.begin(COMPILE, k)
            seconds = compile_step(program.step, state_P, batch_P, hyper_P)
            stop.wait_for_steps()
            for member in members:
                member.trainer.recorder.progress.compiled(seconds)
        phases.begin(STEP, k)
        state_P, metrics_P = program.step(state_P, batch_P, hyper_P)
        if unrecorded:
            _record(members, program, state_P, *unrecorded)
        step, unrecorded = k + 1, (k + 1, metrics_P, batches)

        evaluating, saving = due(step, settings.eval_every, last), due(step, settings.save_every, last)
        if not (evaluating or saving or stop.requested):
            continue
        _record(members, program, state_P, *unrecorded)
        unrecorded = ()
        stopping = _evaluate_and_save(members, program, state_P, step, evaluating, saving)
        if stopping or all(member.failure for member in members):
            return state_P, step
    return state_P, max(first.start, last)


def _evaluate_and_save(
    members: list[Member], program: "_Vmapped", state_P: State, step: int, evaluating: bool, saving: bool
) -> bool:
    """Evaluates all, then saves all, so that all checkpoints are at one step; returns whether to stop there."""
    losses: dict[int, float | None] = {}
    phases = members[0].trainer.recorder.phases

    def evaluate(i: int, trainer: Trainer) -> None:
        losses[i] = trainer.evaluate(program.member(state_P, i), step)

    if evaluating:
        phases.begin(EVALUATION, step)
        _each(members, evaluate)
    stopping = members[0].trainer.stop.requested
    if saving or stopping:
        phases.begin(SAVE, step)
        _each(members, lambda i, trainer: trainer.save(program.member(state_P, i), step, losses.get(i)))
    return stopping


def _record(
    members: list[Member], program: "_Vmapped", state_P: State, step: int, metrics_P: dict, batches: list
) -> None:
    """Writes the metrics of a step into every recorder."""
    found_P = jax.device_get(metrics_P)

    def record(i: int, trainer: Trainer) -> None:
        values = {name: value_P[i] for name, value_P in found_P.items()}
        # A recorder looks at the state to name a tensor that is not finite, and only then.
        state = program.member(state_P, i) if values["skipped"] > trainer.recorder.skipped else {}
        trainer.recorder.queue(step, values, batches[i], state)
        trainer.recorder.flush(state)

    _each(members, record)


@dataclasses.dataclass(frozen=True)
class _Vmapped:
    """A program for many runs: ``step`` takes and returns trees with a leading axis of members."""

    step: Any
    stack: Any
    member: Any


@functools.lru_cache(maxsize=8)
def _compiled(program: Program) -> _Vmapped:
    shardings = jax.tree.map(lambda leaf: leaf.sharding, program.live)
    cut = jax.jit(lambda state_P, i: jax.tree.map(lambda a: a[i], state_P), out_shardings=shardings)
    stack = jax.jit(lambda states: jax.tree.map(lambda *leaves: jax.numpy.stack(leaves), *states))
    return _Vmapped(jax.jit(jax.vmap(program.pure_step), donate_argnums=0), stack, cut)


def _stacked(trees: Sequence[Batch | dict]) -> dict:
    return {name: np.stack([tree[name] for tree in trees]) for name in trees[0]}


def best_size(jobs: Jobs) -> tuple[int, str]:
    """The fastest number of these runs to train at once, by timing steps of one, of all, of half of them …; and the
    measured times as text."""
    (config, workdir), size = jobs[0], len(jobs)
    run = reference.of_run(open_run(config, workdir))
    with jax.set_mesh(run.mesh):
        alone = step_seconds(run, 1)
        measured = [f"1 run: {1e3 * alone:.3g} ms a step"]
        while size > 1:
            try:
                each = step_seconds(run, size) / size
            except jax.errors.JaxRuntimeError as error:
                if OUT_OF_MEMORY not in str(error):
                    raise
                measured.append(f"{size} runs: out of memory")
            else:
                measured.append(f"{size} runs: {1e3 * each:.3g} ms a step and run")
                if each < alone:
                    break
            size = (size + 1) // 2 if size > 2 else 1
    return size, "; ".join(measured)


def step_seconds(run: Run, size: int) -> float:
    """Seconds of a step of ``size`` runs with making their batches; compilation excluded."""
    batches = run.data.train.batches(run.config.train.batch, run.config.data.seed)
    hyper, program = hyper_scalars(run.config), _compiled(run.program)
    state = run.program.init(run.config.train.seed)
    step = run.program.step
    if size > 1:
        state, step, hyper = program.stack([state] * size), program.step, _stacked([hyper] * size)
    times = [0.0]
    for k in range(TIMED_STEPS + 1):
        made = [batches[k] for _ in range(size)]
        state, metrics = step(state, _stacked(made) if size > 1 else made[0], hyper)
        jax.device_get(metrics)
        times.append(time.perf_counter())
    return (times[-1] - times[1]) / TIMED_STEPS
