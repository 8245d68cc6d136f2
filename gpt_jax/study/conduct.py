"""The story of a sweep: plan it, run what is missing, compare what is there. The same command goes on where it stopped."""

import dataclasses
import itertools
import time
from collections.abc import Sequence
from pathlib import Path

from gpt_jax.errors import Failure, Stopped, UserError
from gpt_jax.study import book as books
from gpt_jax.study import findings, search, stages, statistics
from gpt_jax.study import sweep as sweeps
from gpt_jax.study.book import Book
from gpt_jax.study.live import Board
from gpt_jax.study.local import Pool, slots
from gpt_jax.study.report import page
from gpt_jax.study.slurm import Array
from gpt_jax.study.sweep import Job, Sweep
from gpt_jax.train.lock import WorkdirLock
from gpt_jax.train.signals import StopRequest

TICK, PAGE_EVERY = 0.5, 60.0  # seconds
ROWS = 16  # of the board, where SLURM runs any number of tasks


@dataclasses.dataclass(frozen=True)
class Place:
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


def run(sweep: Sweep, source: Path, workdir: Path, place: Place, retry: bool = False) -> None:
    """Trains every run that is not done, and prints how the arms compare.

    Args:
      source: the experiment that made the sweep.

    Raises:
      UserError: the experiment is not in order, and nothing was trained; or its analyse() or draw() is not.
      Stopped: a signal asked for it, here or at a worker; every run at hand is saved.
      Failure: some runs failed; the others are done.
    """
    # Here and not in the experiment: what the command line sets counts in what an arm costs.
    sweep = _matched(sweep, source, workdir, place, retry) if sweep.match else sweep
    stages.check(sweep)
    rounds = search.rounds(sweep, lambda: books.read(workdir).means())
    planned = sweeps.jobs(first := next(rounds))
    workdir.mkdir(parents=True, exist_ok=True)
    with WorkdirLock(workdir), StopRequest() as stop:
        for sweep in itertools.chain([first], rounds):
            planned = planned if sweep is first else sweeps.jobs(sweep)
            book = books.write(workdir, sweep, planned, source)
            if retry and sweep is first:
                book.forgive()
            _train_stages(sweep, book, planned, place, stop)
            if any(book.status(job.id) in ("new", "stopped") for job in planned):
                break
        for told in (*(f"{arm}: no more runs, {why}" for arm, why in book.dropped().items()), search.tell(book)):
            print(told, end="\n" if told else "", flush=True)
    print(f"\n{tell(book)}", flush=True)
    try:
        _conclude(book, sweep, source)
    finally:
        print(f"\nreport: {page.write(book)}", flush=True)
    if left := [job for job in planned if book.status(job.id) in ("new", "stopped")]:
        raise Stopped(
            f"the sweep was stopped with {len(left)} of {len(planned)} runs to do; what was trained is saved",
            where=str(workdir),
            fix="the same command goes on",
        )
    if failed := book.failures():
        raise Failure(
            f"{len(failed)} of {len(planned)} runs failed: "
            + "; ".join(f"{name}: {error}" for name, error in failed.items()),
            where=str(workdir),
            fix="--retry tries them again",
        )


def _matched(sweep: Sweep, source: Path, workdir: Path, place: Place, retry: bool) -> Sweep:
    # Counting loads the model, which a sweep that matches nothing leaves to its workers.
    from gpt_jax.study import clock, match

    if sweep.match != match.TIMED:
        return match.match(sweep)
    if sweep.knob not in (match.STEPS, Sweep.knob):
        raise UserError(f"time is matched by {match.STEPS}", where=f"Sweep.knob = {sweep.knob!r}")
    print("timing a step of every arm", flush=True)
    run(clock.timed(sweep), source, workdir / clock.FOLDER, place, retry)
    return match.match(sweep, clock.step_seconds(books.read(workdir / clock.FOLDER)))


def _train_stages(sweep: Sweep, book: Book, planned: Sequence[Job], place: Place, stop: StopRequest) -> None:
    for missing in stages.stages(sweep, book, planned):
        ended = sum(book.status(job.id) in ("done", "failed", "dropped") for job in planned)
        print(f"{len(planned)} runs: {ended} at their end, {len(missing)} to do", flush=True)
        if missing:
            # Of fewer runs than there are going to be.
            (book.workdir / findings.NAME).unlink(missing_ok=True)
            _train(book, planned, missing, place, stop)
        if any(stages.unfinished(book, job) for job in missing):
            return


def _conclude(book: Book, sweep: Sweep, source: Path) -> None:
    """Tells what the experiment finds of its runs, once all are done."""
    if sweep.analyse is None or not book.ended:
        return
    kept = "every run is done and kept; mend it, and the same command concludes"
    with sweeps.told_of(source, "analyse(book)", kept):
        found = sweep.analyse(book)
    with sweeps.told_of(source, "draw(book)", kept):
        figures = sweep.draw(book) if sweep.draw else {}
    print(f"\n{findings.tell(findings.conclude(book, found, figures))}", flush=True)


def tell(book: Book) -> str:
    """The verdicts as text."""
    rows = book.comparisons()
    if book.baseline is None:
        return "the arms are not compared with each other"
    if not rows:
        return "no arm can be compared with the baseline yet"
    width = max(len(row.arm) for row in rows)
    lines = [f"{book.metric} against {rows[0].baseline} (lower is better), paired by seed"]
    for row in rows:
        interval = f"[{row.interval.low:+.4f}, {row.interval.high:+.4f}]" if row.interval else "one seed"
        finds = f"  {len(row.seeds)} seeds find {row.detectable:.2g}" if row.interval else ""
        unclear = row.verdict == statistics.INCONCLUSIVE and row.seeds_needed
        settle = f"; {row.seeds_needed} would settle this" if unclear else ""
        lines.append(
            f"  {row.arm:<{width}}  {row.mean:+.4f} {interval:<20} p {row.p_adjusted:.3f}  {row.verdict}{finds}{settle}"
        )
    return "\n".join(lines)


def _train(book: Book, planned: Sequence[Job], missing: Sequence[Job], place: Place, stop: StopRequest) -> None:
    places = [] if place.slurm else slots(place.count)[: len(missing)]
    rows = min(ROWS, len(missing)) if place.slurm else len(places)
    with Board(book, planned, rows) as board:
        pool: Pool | Array
        if place.slurm:
            pool = Array(book, missing, place.count, place.options, rows, board.begin, board.ended)
        else:
            pool = Pool(book, missing, places, place.together, board.begin, board.ended)
        pool.start()
        written = time.monotonic()
        while not pool.join(TICK):
            board.draw()
            if board.news and time.monotonic() - written > PAGE_EVERY:
                board.news, written = False, time.monotonic()
                page.write(book)
            if stop.requested:
                if not pool.stopping:
                    board.note(pool.goodbye)
                pool.stop()
