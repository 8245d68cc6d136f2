"""What a sweep trains first, and who goes on: looks after some of the seeds, or halvings after some of the steps.

Every decision follows from finished runs alone, so a sweep that is started again comes to the same ones.
"""

import dataclasses
import math
from collections.abc import Iterator, Sequence

import numpy as np

from gpt_jax.errors import UserError
from gpt_jax.study.compare import power, statistics
from gpt_jax.study.sweep.results import DROPPED, SweepResults, steps_of
from gpt_jax.study.sweep.sweep import Job, Sweep
from gpt_jax.train.record.metrics import read


def check(sweep: Sweep) -> None:
    """Refuses looks and halvings that cannot be.

    Raises:
      UserError: both at once, none to compare with, or numbers that do not rise or lie out of range.
    """
    if sweep.looks and sweep.halve:
        raise UserError("a sweep has looks or halvings, not both", where="Sweep.looks, Sweep.halve")
    if (sweep.looks or sweep.halve) and sweep.baseline is None:
        raise UserError("arms are given up for a baseline's sake, and there is none", where="Sweep.baseline")
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
    """Jobs to be trained before the next decision; whoever trains them asks for the next stage when they are done."""
    (results.workdir / DROPPED).unlink(missing_ok=True)
    if sweep.looks:
        yield from _looks(sweep, results, planned)
    for share in sweep.halve:
        yield _to_do(results, [dataclasses.replace(job, until=_steps(job, share)) for job in planned])
        results.drop(_worse_half(results, planned, share))
    if not sweep.looks:
        yield _to_do(results, planned)


def _looks(sweep: Sweep, results: SweepResults, planned: Sequence[Job]) -> Iterator[list[Job]]:
    assert sweep.baseline is not None
    shares = power.spending(sweep.looks, statistics.ALPHA)
    for n, share in zip(sweep.looks, shares, strict=True):
        seeds = set(sweep.seeds[:n])
        yield _to_do(results, [job for job in planned if job.seed in seeds])
        values = {arm: {s: v for s, v in row.items() if s in seeds} for arm, row in results.values().items()}
        common = {arm: row for arm, row in values.items() if set(row) & set(values[sweep.baseline])}
        rows = statistics.compare(common, sweep.baseline, alpha=share, margin=sweep.margin)
        clear = [row for row in rows if row.verdict != statistics.INCONCLUSIVE and row.arm not in results.dropped()]
        if n < len(sweep.seeds):
            results.drop({row.arm: f"{row.verdict} after {n} seeds" for row in clear})
        if all(arm in results.dropped() or arm == sweep.baseline for arm in sweep.arms):
            results.drop({sweep.baseline: f"every verdict is clear after {n} seeds"})
            return


def _worse_half(results: SweepResults, planned: Sequence[Job], share: float) -> dict[str, str]:
    """The arms to give up: of those left, the baseline apart, the better half stays, rounded up."""
    rivals = [arm for arm in results.arms if arm != results.baseline and arm not in results.dropped()]
    means = {}
    for arm in rivals:
        jobs = [job for job in planned if arm in job.arms]
        means[arm] = float(np.mean([_value_at(results, job, _steps(job, share)) for job in jobs]))
    ranked = sorted(rivals, key=lambda arm: (math.isnan(means[arm]), means[arm]))
    gone = ranked[math.ceil(len(ranked) / 2) :]
    return {arm: f"in the worse half after {share:.0%} of the steps, {results.metric} {means[arm]:.4f}" for arm in gone}


def _value_at(results: SweepResults, job: Job, step: int) -> float:
    """The metric of a run after a number of steps; nan where it failed before."""
    if results.status(job.id) == "failed":
        return math.nan
    found = [
        row[results.metric] for row in read(results.directory(job.id)) if row["step"] == step and results.metric in row
    ]
    return found[-1] if found else math.nan


def unfinished(results: SweepResults, job: Job) -> bool:
    """Whether a run has not come to where it is to pause or end."""
    paused = 0 < job.until <= steps_of(results.directory(job.id))
    return not paused and results.status(job.id) in ("new", "stopped")


def _to_do(results: SweepResults, jobs: Sequence[Job]) -> list[Job]:
    return [job for job in jobs if unfinished(results, job)]


def _steps(job: Job, share: float) -> int:
    return max(1, round(share * job.config.train.steps))
