"""A sweep from start to end: plan it, train what is missing, compare the arms. The same command resumes it."""

import dataclasses
import itertools
import time
from collections.abc import Sequence
from pathlib import Path

from gpt_jax.errors import INTERNAL, Failure, Stopped, UserError
from gpt_jax.storage import make_folder, only_warned
from gpt_jax.study.compare import claims
from gpt_jax.study.report import page
from gpt_jax.study.sweep import early_stopping, search, starts
from gpt_jax.study.sweep import sweep as sweeps
from gpt_jax.study.sweep.local import Pool, slots
from gpt_jax.study.sweep.prepare import tuning
from gpt_jax.study.sweep.progress import SweepProgress
from gpt_jax.study.sweep.results import SweepResults
from gpt_jax.study.sweep.slurm import Array
from gpt_jax.study.sweep.sweep import Job, Sweep
from gpt_jax.train.checkpoint.lock import WorkdirLock
from gpt_jax.train.signals import StopRequest
from gpt_jax.user_code import naming_errors_of

TICK, PAGE_EVERY = 0.5, 60.0  # seconds
SLURM_BARS = 16  # progress bars at most, where SLURM runs any number of tasks


@dataclasses.dataclass(frozen=True)
class Execution:
    """How a sweep was started, and where its runs are trained.

    Args:
      source: the experiment file.
      workdir: the directory of the sweep.
      command: the command line, for the report.
      jobs: runs at once; 0 = one for each GPU or core of this machine, or as many as SLURM allows.
      slurm: whether runs are tasks of a SLURM array, with ``options`` for sbatch.
      together: runs that differ only in seeds and scalars to train as one program; 0 = on a GPU the fastest number,
        measured, elsewhere 1.
      retry: whether failed runs are trained again.
    """

    source: Path
    workdir: Path
    command: tuple[str, ...] = ()
    jobs: int = 0
    slurm: bool = False
    options: str = ""
    together: int = 0
    retry: bool = False


def run(sweep: Sweep, execution: Execution) -> SweepResults:
    """Trains every run that is not done, prints how the arms compare, and returns the results.

    Raises:
      UserError: the experiment is wrong, and nothing was trained; or its analyse() or draw() is.
      Stopped: a signal asked for it, here or at a worker; every run in progress is saved.
      Failure: some runs failed; the others are done.
    """
    workdir = execution.workdir
    # Here and not in the experiment file, because overrides on the command line change what an arm costs.
    sweep = _matched(sweep, execution) if sweep.match else sweep
    sweep = _tuned(sweep, execution) if sweep.tune else sweep
    early_stopping.check(sweep)
    rounds = search.rounds(sweep, lambda: _costs(SweepResults.read(workdir)))
    planned = sweeps.jobs(first := next(rounds))
    make_folder(workdir)
    with WorkdirLock(workdir), StopRequest() as stop:
        for sweep in itertools.chain([first], rounds):
            planned = planned if sweep is first else sweeps.jobs(sweep)
            results = SweepResults.plan(workdir, sweep, planned, execution.source, execution.command)
            if execution.retry and sweep is first:
                results.clear_failures()
            _train_stages(sweep, results, planned, execution, stop)
            if _unfinished(results, planned):
                break
        for arm, reason in results.stopped_early().items():
            print(f"{arm}: stopped early, {reason}")
        if best := search.describe(results):
            print(best)
    print(f"\n{results.verdicts()}", flush=True)
    try:
        _check_claims(results, sweep, execution.source)
    finally:
        _write_page(results)
    # Runs whose start failed are not finished either.
    if (unfinished := _unfinished(results, planned)) and (stop.requested or not results.failures()):
        raise Stopped(
            f"the sweep was stopped; {len(unfinished)} of {len(planned)} runs are not finished, and their state is saved",
            where=str(workdir),
            fix="the same command resumes it",
        )
    if results.failures():
        raise _failed(results, len(planned))
    return results


def _costs(results: SweepResults) -> dict[str, float]:
    return {arm: results.cost(mean) for arm, mean in results.means().items()}


def _failed(results: SweepResults, planned: int) -> Failure:
    """Of a sweep whose runs ended, some with errors. Its exit code is theirs: that of a bug, if there was one."""
    failed, codes = results.failures(), results.failure_codes()
    failure = Failure(
        f"{len(failed)} of {planned} runs failed: " + "; ".join(f"{name}: {error}" for name, error in failed.items()),
        where=str(results.workdir),
        fix="--retry trains them again",
    )
    failure.exit_code = INTERNAL if INTERNAL in codes else codes[0]
    return failure


def _write_page(results: SweepResults) -> None:
    """The runs are what a sweep is for: a page that cannot be written is left to the verb report."""
    with only_warned("the report cannot be written"):
        print(f"\nreport: {page.write(results)}", flush=True)


def _unfinished(results: SweepResults, planned: Sequence[Job]) -> list[Job]:
    return [job for job in planned if results.status(job.id) in ("new", "resumable")]


def _matched(sweep: Sweep, execution: Execution) -> Sweep:
    # Imported here: counting loads the model, which a sweep without matching leaves to its workers.
    from gpt_jax.study.sweep.prepare import matching, step_time

    if sweep.match != matching.TIMED:
        return matching.match(sweep)
    if sweep.knob not in (matching.STEPS, Sweep.knob):
        raise UserError(f"time is matched by {matching.STEPS}", where=f"Sweep.knob = {sweep.knob!r}")
    print("measuring the step time of every arm", flush=True)
    folder = execution.workdir / step_time.FOLDER
    run(step_time.timed(sweep), dataclasses.replace(execution, workdir=folder))
    return matching.match(sweep, step_time.step_seconds(SweepResults.read(folder)))


def _tuned(sweep: Sweep, execution: Execution) -> Sweep:
    folder = execution.workdir / tuning.FOLDER

    def measure(asked: Sweep) -> dict[str, float]:
        print(f"tuning {sweep.tune}: {len(asked.arms)} arms x {len(asked.seeds)} seeds that are not scored", flush=True)
        return _costs(run(asked, dataclasses.replace(execution, workdir=folder)))

    return tuning.tuned(sweep, measure)


def _train_stages(
    sweep: Sweep, results: SweepResults, planned: Sequence[Job], execution: Execution, stop: StopRequest
) -> None:
    for missing in early_stopping.stages(sweep, results, planned):
        finished = len(planned) - len(_unfinished(results, planned))
        print(f"{len(planned)} runs: {finished} finished, {len(missing)} to train", flush=True)
        if missing:
            # Claims checked on fewer runs are out of date.
            (results.workdir / claims.NAME).unlink(missing_ok=True)
        for ready in starts.waves(missing, lambda id: results.status(id) == "done"):
            _train(results, planned, ready, execution, stop)
            if stop.requested:
                return
        if any(early_stopping.unfinished(results, job) for job in missing):
            return


def _check_claims(results: SweepResults, sweep: Sweep, source: Path) -> None:
    """Runs the experiment's analyse() and draw(), once all runs are done, and prints the claims."""
    if sweep.analyse is None or not results.complete:
        return
    fix = "every run is done and kept: correct the file and give the same command again"
    with naming_errors_of(source, "analyse(results)", fix):
        found = sweep.analyse(results)
    with naming_errors_of(source, "draw(results)", fix):
        figures = sweep.draw(results) if sweep.draw else {}
    print(f"\n{claims.describe(claims.write(results.workdir, found, figures))}", flush=True)


def _train(
    results: SweepResults, planned: Sequence[Job], missing: Sequence[Job], execution: Execution, stop: StopRequest
) -> None:
    """Trains the missing runs until they end or a signal asks to stop."""
    local = [] if execution.slurm else slots(execution.jobs)[: len(missing)]
    bars = min(SLURM_BARS, len(missing)) if execution.slurm else len(local)
    with SweepProgress(results, planned, bars) as progress:
        pool: Pool | Array
        callbacks = progress.on_start, progress.on_end
        if execution.slurm:
            pool = Array(results, missing, execution.jobs, execution.options, bars, *callbacks)
        else:
            pool = Pool(results, missing, local, execution.together, *callbacks)
        pool.start()
        written = time.monotonic()
        while not pool.join(TICK):
            progress.draw()
            if progress.changed and time.monotonic() - written > PAGE_EVERY:
                progress.changed, written = False, time.monotonic()
                with only_warned("the report cannot be written"):
                    page.write(results)
            if stop.requested:
                if not pool.stopping:
                    progress.note(pool.stop_message)
                pool.stop()
