"""The story of a sweep: plan it, run what is missing, compare what is there. The same command goes on where it stopped."""

import dataclasses
import itertools
import time
from collections.abc import Sequence
from pathlib import Path

from gpt_jax.errors import Failure, Stopped, UserError
from gpt_jax.study.compare import claims
from gpt_jax.study.report import page
from gpt_jax.study.sweep import early_stopping, search
from gpt_jax.study.sweep import sweep as sweeps
from gpt_jax.study.sweep.local import Pool, slots
from gpt_jax.study.sweep.progress import SweepProgress
from gpt_jax.study.sweep.results import SweepResults
from gpt_jax.study.sweep.slurm import Array
from gpt_jax.study.sweep.sweep import Job, Sweep
from gpt_jax.train.checkpoint.lock import WorkdirLock
from gpt_jax.train.signals import StopRequest
from gpt_jax.user_code import naming_errors_of

TICK, PAGE_EVERY = 0.5, 60.0  # seconds
ROWS = 16  # of the board, where SLURM runs any number of tasks


@dataclasses.dataclass(frozen=True)
class Placement:
    """Where runs are trained.

    Args:
      count: runs at once; 0 = one a GPU or core of this machine, or as many as SLURM gives.
      slurm: whether they are tasks of a SLURM array, with ``options`` for sbatch.
      together: runs alike but for seeds and scalars that one program trains here at once; 0 = on a GPU as many as is
        fastest, measured; 1 = none.
    """

    count: int = 0
    slurm: bool = False
    options: str = ""
    together: int = 0


def run(sweep: Sweep, source: Path, workdir: Path, place: Placement, retry: bool = False) -> SweepResults:
    """Trains every run that is not done, prints how the arms compare, and returns what they came to.

    Args:
      source: the experiment that made the sweep.

    Raises:
      UserError: the experiment is not in order, and nothing was trained; or its analyse() or draw() is not.
      Stopped: a signal asked for it, here or at a worker; every run at hand is saved.
      Failure: some runs failed; the others are done.
    """
    # Here and not in the experiment: what the command line sets counts in what an arm costs.
    sweep = _matched(sweep, source, workdir, place, retry) if sweep.match else sweep
    early_stopping.check(sweep)
    rounds = search.rounds(sweep, lambda: SweepResults.read(workdir).means())
    planned = sweeps.jobs(first := next(rounds))
    workdir.mkdir(parents=True, exist_ok=True)
    with WorkdirLock(workdir), StopRequest() as stop:
        for sweep in itertools.chain([first], rounds):
            planned = planned if sweep is first else sweeps.jobs(sweep)
            results = SweepResults.plan(workdir, sweep, planned, source)
            if retry and sweep is first:
                results.clear_failures()
            _train_stages(sweep, results, planned, place, stop)
            if any(results.status(job.id) in ("new", "stopped") for job in planned):
                break
        for told in (
            *(f"{arm}: no more runs, {why}" for arm, why in results.dropped().items()),
            search.describe(results),
        ):
            print(told, end="\n" if told else "", flush=True)
    print(f"\n{results.verdicts()}", flush=True)
    try:
        _check_claims(results, sweep, source)
    finally:
        print(f"\nreport: {page.write(results)}", flush=True)
    if left := [job for job in planned if results.status(job.id) in ("new", "stopped")]:
        raise Stopped(
            f"the sweep was stopped with {len(left)} of {len(planned)} runs to do; what was trained is saved",
            where=str(workdir),
            fix="the same command goes on",
        )
    if failed := results.failures():
        raise Failure(
            f"{len(failed)} of {len(planned)} runs failed: "
            + "; ".join(f"{name}: {error}" for name, error in failed.items()),
            where=str(workdir),
            fix="--retry tries them again",
        )
    return results


def _matched(sweep: Sweep, source: Path, workdir: Path, place: Placement, retry: bool) -> Sweep:
    # Counting loads the model, which a sweep that matches nothing leaves to its workers.
    from gpt_jax.study.sweep import matching, step_time

    if sweep.match != matching.TIMED:
        return matching.match(sweep)
    if sweep.knob not in (matching.STEPS, Sweep.knob):
        raise UserError(f"time is matched by {matching.STEPS}", where=f"Sweep.knob = {sweep.knob!r}")
    print("timing a step of every arm", flush=True)
    run(step_time.timed(sweep), source, workdir / step_time.FOLDER, place, retry)
    return matching.match(sweep, step_time.step_seconds(SweepResults.read(workdir / step_time.FOLDER)))


def _train_stages(
    sweep: Sweep, results: SweepResults, planned: Sequence[Job], place: Placement, stop: StopRequest
) -> None:
    for missing in early_stopping.stages(sweep, results, planned):
        ended = sum(results.status(job.id) in ("done", "failed", "dropped") for job in planned)
        print(f"{len(planned)} runs: {ended} at their end, {len(missing)} to do", flush=True)
        if missing:
            # Of fewer runs than there are going to be.
            (results.workdir / claims.NAME).unlink(missing_ok=True)
            _train(results, planned, missing, place, stop)
        if any(early_stopping.unfinished(results, job) for job in missing):
            return


def _check_claims(results: SweepResults, sweep: Sweep, source: Path) -> None:
    """Tells what the experiment finds of its runs, once all are done."""
    if sweep.analyse is None or not results.ended:
        return
    kept = "every run is done and kept; mend it, and the same command concludes"
    with naming_errors_of(source, "analyse(results)", kept):
        found = sweep.analyse(results)
    with naming_errors_of(source, "draw(results)", kept):
        figures = sweep.draw(results) if sweep.draw else {}
    print(f"\n{claims.describe(claims.write(results.workdir, found, figures))}", flush=True)


def _train(
    results: SweepResults, planned: Sequence[Job], missing: Sequence[Job], place: Placement, stop: StopRequest
) -> None:
    places = [] if place.slurm else slots(place.count)[: len(missing)]
    rows = min(ROWS, len(missing)) if place.slurm else len(places)
    with SweepProgress(results, planned, rows) as board:
        pool: Pool | Array
        if place.slurm:
            pool = Array(results, missing, place.count, place.options, rows, board.begin, board.ended)
        else:
            pool = Pool(results, missing, places, place.together, board.begin, board.ended)
        pool.start()
        written = time.monotonic()
        while not pool.join(TICK):
            board.draw()
            if board.news and time.monotonic() - written > PAGE_EVERY:
                board.news, written = False, time.monotonic()
                page.write(results)
            if stop.requested:
                if not pool.stopping:
                    board.note(pool.goodbye)
                pool.stop()
