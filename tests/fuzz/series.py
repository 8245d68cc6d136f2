"""Cases run in turn, several at once."""

import shutil
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.fuzz import kit, worker
from tests.fuzz.cases import Case
from tests.fuzz.judge import faults
from tests.fuzz.surroundings import Surroundings
from tests.fuzz.verbs import draw_case

TICK = 0.01  # seconds


def start(folder: Path) -> Path:
    """Imports what cases use and makes what they start from, in a new folder below ``folder``."""
    worker.prepare()
    shared = folder / "shared"
    shared.mkdir()
    return kit.make(shared)


def run(
    seeds: Iterable[str], folder: Path, shared: Path, jobs: int, keep: bool = False
) -> Iterator[tuple[Case, worker.Ended, list[str]]]:
    """Every case with how it ended and what is wrong with that, as they end. ``keep``: leave the files.

    What has changed outside the folders of cases is held against the one that ended; of several at once it may be another.
    """
    waiting = iter(seeds)
    surroundings = Surroundings(folder, shared)
    begun: set[str] = set()
    running: list[tuple[Case, worker.Child]] = []
    more = True
    try:
        while more or running:
            while more and len(running) < jobs:
                seed = next(waiting, None)
                if seed is None:
                    more = False
                    break
                own = folder / seed
                own.mkdir()
                begun.add(seed)
                case = draw_case(seed, own, shared)
                running.append((case, worker.Child(worker.command(case.argv), own)))
            for case, child in list(running):
                ended = child.ended()
                if ended is None:
                    continue
                running.remove((case, child))
                found = [*faults(case, ended), *surroundings.changes(begun)]
                if not keep:
                    shutil.rmtree(child.folder, ignore_errors=True)
                yield case, ended, found
            time.sleep(TICK)
    finally:
        for _, child in running:
            child.kill()
