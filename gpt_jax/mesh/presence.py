"""Which processes of a launch are still there: each counts in the coordinator's store, whatever its main thread does."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

import jax
from jax._src import distributed  # the store has no public name

from gpt_jax.errors import lost_process

EVERY = 2.0  # seconds between two counts
STILL = 5.0  # seconds after which a process is gone whose count stands still
PATIENCE = 10.0  # seconds that the coordinator has to answer in
ALIVE, LEFT = "gpt_jax/alive", "gpt_jax/left"


class Presence:
    """Of this process, of a launch of several, whose store is the coordinator's."""

    def __init__(self) -> None:
        self._client = distributed.global_state.client
        self._rank, self._count = jax.process_index(), jax.process_count()

    def count(self) -> None:
        """Counts for ever, or until the coordinator is gone."""
        counted = 0
        with contextlib.suppress(jax.errors.JaxRuntimeError):
            while True:
                counted += 1
                self._client.key_value_set(f"{ALIVE}/{self._rank}", str(counted), allow_overwrite=True)
                time.sleep(EVERY)

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

    def _silent(self) -> list[int]:
        before = self._read(ALIVE)
        time.sleep(STILL)
        now, left = self._read(ALIVE), self._read(LEFT)
        others = [rank for rank in range(self._count) if rank != self._rank and rank not in left]
        return [rank for rank in others if now.get(rank) == before.get(rank)]

    def _read(self, folder: str) -> dict[int, str]:
        return {int(key.rsplit("/", 1)[1]): value for key, value in self._client.key_value_dir_get(folder)}


def begin() -> None:
    """Lets the others know from here on that this process is there."""
    if jax.process_count() > 1:
        threading.Thread(target=Presence().count, name="presence", daemon=True).start()


def gone() -> str:
    """Who no longer answers, as the subject of a sentence; "" where that is nobody."""
    found = _within(STILL + PATIENCE, Presence().gone) if jax.process_count() > 1 else []
    return f"process{'es' if len(found) > 1 else ''} {', '.join(map(str, found))}" if found else ""


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
        if lost_process(error) and (who := gone()):
            raise lost_process(error, who) or error from error
        raise
