"""Early stopping of arms: group-sequential looks after some of the seeds, or successive halving after some of the steps.

Every decision follows from finished runs alone, so a restarted sweep makes the same ones.
"""

import dataclasses
import math
from collections.abc import Iterator, Sequence

import numpy as np

from gpt_jax.errors import UserError
from gpt_jax.study.compare import power, statistics
from gpt_jax.study.sweep.results import STOPPED_EARLY, SweepResults, steps_of
from gpt_jax.study.sweep.sweep import Job, Sweep
from gpt_jax.train.record.metrics import read


def check(sweep: Sweep) -> None:
    """Checks ``Sweep.looks`` and ``Sweep.halve``.

    Raises:
      UserError: both are given, there is no baseline, or the numbers do not rise or are out of range.
    """
    if sweep.looks and sweep.halve:
        raise UserError("a sweep has looks or halvings, not both", where="Sweep.looks, Sweep.halve")
    if (sweep.looks or sweep.halve) and sweep.baseline is None:
        raise UserError("early stopping compares arms with a baseline, and there is none", where="Sweep.baseline")
    looks = list(sweep.looks)
    if looks and (looks != sorted(set(looks)) or looks[0] < 2 or looks[-1] != len(sweep.seeds)):
        raise UserError(
            f"looks after {looks} seeds",
            where="Sweep.looks",
            allowed=f"rising numbers from 2 to {len(sweep.seeds)}, the number of seeds",
        )
    shares = list(sweep.halve)
    if shares and (shares != sorted(set(shares)) or not 0 < shares[0] <= shares[-1] < 1):
        raise UserError(
            f"halvings after {shares} of the steps", where="Sweep.halve", allowed="rising shares between 0 and 1"
        )


def stages(sweep: Sweep, results: SweepResults, planned: Sequence[Job]) -> Iterator[list[Job]]:
    """Jobs to train before the next decision; ask for the next stage when they are done."""
    (results.workdir / STOPPED_EARLY).unlink(missing_ok=True)
    if sweep.looks:
        yield from _looks(sweep, results, planned)
    for share in sweep.halve:
        yield _to_do(results, [dataclasses.replace(job, until=_steps(job, share)) for job in planned])
        results.stop_early(_worse_half(results, planned, share))
    if not sweep.looks:
        yield _to_do(results, planned)


def _looks(sweep: Sweep, results: SweepResults, planned: Sequence[Job]) -> Iterator[list[Job]]:
    assert sweep.baseline is not None
    shares = power.spending(sweep.looks, statistics.ALPHA)
    for n, share in zip(sweep.looks, shares, strict=True):
        seeds = set(sweep.seeds[:n])
        yield _to_do(results, [job for job in planned if job.seed in seeds])
        values = {arm: {s: v for s, v in row.items() if s in seeds} for arm, row in results.values().items()}
        common, low = statistics.comparable(values, sweep.baseline), results.lower_is_better
        rows = []
        if common:
            rows = statistics.compare(common, sweep.baseline, alpha=share, margin=sweep.margin, lower_is_better=low)
        clear = [
            row for row in rows if row.verdict != statistics.INCONCLUSIVE and row.arm not in results.stopped_early()
        ]
        if n < len(sweep.seeds):
            results.stop_early({row.arm: f"{row.verdict} after {n} seeds" for row in clear})
        if all(arm in results.stopped_early() or arm == sweep.baseline for arm in sweep.arms):
            results.stop_early({sweep.baseline: f"every verdict is clear after {n} seeds"})
            return


def _worse_half(results: SweepResults, planned: Sequence[Job], share: float) -> dict[str, str]:
    """The arms to stop -> the reason: of those left, without the baseline, the better half stays, rounded up."""
    candidates = [arm for arm in results.arms if arm != results.baseline and arm not in results.stopped_early()]
    means = {}
    for arm in candidates:
        jobs = [job for job in planned if arm in job.arms]
        means[arm] = float(np.mean([_value_at(results, job, _steps(job, share)) for job in jobs]))
    ranked = sorted(candidates, key=lambda arm: (math.isnan(means[arm]), results.cost(means[arm])))
    worse = ranked[math.ceil(len(ranked) / 2) :]
    return {
        arm: f"in the worse half after {share:.0%} of the steps, {results.metric} {means[arm]:.4f}" for arm in worse
    }


def _value_at(results: SweepResults, job: Job, step: int) -> float:
    """The metric of a run after a number of steps; nan where the run failed before."""
    if results.status(job.id) == "failed":
        return math.nan
    rows = read(results.directory(job.id))
    found = [row[results.metric] for row in rows if row["step"] == step and results.metric in row]
    return found[-1] if found else math.nan


def unfinished(results: SweepResults, job: Job) -> bool:
    """Whether a run has yet to reach the step at which it pauses or ends."""
    paused = 0 < job.until <= steps_of(results.directory(job.id))
    return not paused and results.status(job.id) in ("new", "resumable")


def _to_do(results: SweepResults, jobs: Sequence[Job]) -> list[Job]:
    return [job for job in jobs if unfinished(results, job)]


def _steps(job: Job, share: float) -> int:
    """The steps after which a run pauses: a share of all, up to the end of a rollout."""
    steps, updates = job.config.train.steps, job.config.tune.updates
    return min(max(1, -(-round(share * steps) // updates)) * updates, steps)
