"""Which processes of a launch are still there: each counts in the coordinator's store, whatever its main thread does."""

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator

import jax
from jax._src import distributed  # the store has no public name

from gpt_jax.errors import lost_process

EVERY = 2.0  # seconds between two counts
STILL = 5.0  # seconds after which a process is gone whose count stands still
PATIENCE = 10.0  # seconds that the coordinator has to answer in, and the others to leave before it
LEAVING = 2.0  # seconds from saying so to having left
ALIVE, LEFT = "gpt_jax/alive", "gpt_jax/left"


class Presence:
    """Of this process, of a launch of several, whose store is the coordinator's."""

    def __init__(self) -> None:
        self._client = distributed.global_state.client
        self._rank, self._count = jax.process_index(), jax.process_count()

    def count(self, ended: threading.Event) -> None:
        """Counts until this process leaves or the coordinator is gone. The coordinator says on the way who stands still: JAX
        names him by a number alone when it ends the others."""
        counted, listened = 0, Listener()
        with contextlib.suppress(jax.errors.JaxRuntimeError):
            while True:
                counted += 1
                self._client.key_value_set(f"{ALIVE}/{self._rank}", str(counted), allow_overwrite=True)
                if not self._rank:
                    left = self._read(LEFT)
                    counts = {rank: count for rank, count in self._read(ALIVE).items() if rank not in left}
                    for rank in listened.newly_still(counts, time.monotonic()):
                        said = f"process {rank} of {self._count} has not answered for {STILL:.0f} s"
                        print(said, file=sys.stderr, flush=True)
                if ended.wait(EVERY):
                    return self._client.key_value_set(f"{LEFT}/{self._rank}", "", allow_overwrite=True)

    def gone(self) -> list[int]:
        """The processes that no longer count, by what this one sees in a few seconds or others have seen before they left;
        process 0 where the coordinator does not answer. Says that this one leaves because of them."""
        try:
            seen = [ranks for ranks in self._read(LEFT).values() if ranks]
            found = [int(rank) for rank in seen[0].split(",")] if seen else self._silent()
            self._client.key_value_set(f"{LEFT}/{self._rank}", ",".join(map(str, found)), allow_overwrite=True)
        except jax.errors.JaxRuntimeError:
            return [0]
        return found

    def all_left(self) -> bool:
        """Whether all others have said that they leave, but those because of whom."""
        left = self._read(LEFT)
        gone = {int(rank) for ranks in left.values() if ranks for rank in ranks.split(",")}
        return set(left) | gone | {self._rank} >= set(range(self._count))

    def _silent(self) -> list[int]:
        before = self._read(ALIVE)
        time.sleep(STILL)
        now, left = self._read(ALIVE), self._read(LEFT)
        others = [rank for rank in range(self._count) if rank != self._rank and rank not in left]
        return [rank for rank in others if now.get(rank) == before.get(rank)]

    def _read(self, folder: str) -> dict[int, str]:
        return {int(key.rsplit("/", 1)[1]): value for key, value in self._client.key_value_dir_get(folder)}


class Listener:
    """Who has not counted for ``STILL`` seconds."""

    def __init__(self) -> None:
        self._last: dict[int, tuple[str, float]] = {}
        self._still: set[int] = set()

    def newly_still(self, counts: dict[int, str], now: float) -> list[int]:
        """Those of whom it is the first time since they last counted."""
        for rank, count in counts.items():
            if self._last.get(rank, ("", 0.0))[0] != count:
                self._last[rank] = count, now
                self._still.discard(rank)
        self._last = {rank: seen for rank, seen in self._last.items() if rank in counts}
        found = [rank for rank, (_, since) in self._last.items() if now - since >= STILL and rank not in self._still]
        self._still.update(found)
        return found


@contextlib.contextmanager
def counting() -> Iterator[None]:
    """Lets the others know that this process is there, until it leaves."""
    if jax.process_count() == 1:
        yield
        return
    ended = threading.Event()
    thread = threading.Thread(target=Presence().count, args=(ended,), name="presence", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        # A thread that asks the coordinator something while Python ends would abort the process.
        thread.join(PATIENCE)


def gone() -> str:
    """Who no longer answers, as the subject of a sentence; "" where that is nobody."""
    found = _within(STILL + PATIENCE, Presence().gone) if jax.process_count() > 1 else []
    return f"process{'es' if len(found) > 1 else ''} {', '.join(map(str, found))}" if found else ""


def leave_last() -> None:
    """Has the coordinator wait until the others have left: JAX aborts each that loses it, whatever that was about to say."""
    if jax.process_index():
        return
    deadline, presence = time.monotonic() + PATIENCE, Presence()
    with contextlib.suppress(jax.errors.JaxRuntimeError):
        while not presence.all_left() and time.monotonic() < deadline:
            time.sleep(EVERY / 10)
    time.sleep(LEAVING)


def _within(seconds: float, look: Callable[[], list[int]]) -> list[int]:
    """What it finds; process 0 where that takes longer: a coordinator that is stopped leaves questions open."""
    found: list[list[int]] = []
    thread = threading.Thread(target=lambda: found.append(look()), daemon=True)
    thread.start()
    thread.join(seconds)
    return found[0] if found else [0]


@contextlib.contextmanager
def naming() -> Iterator[None]:
    """Names the process that is gone where a collective fails for want of it."""
    try:
        yield
    except Exception as error:
        found = next((one for one in (error, error.__cause__) if one is not None and lost_process(one)), None)
        if found is not None and (who := gone()):
            raise lost_process(found, who) or error from error
        raise
