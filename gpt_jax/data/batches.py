"""The windows of batch k: a pure function of (seed, k), the same in every process and worker and on every device.

There is no iterator and no state: to resume at step k, ask for batch k.
"""

import functools
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from gpt_jax.data.overlapping import overlapping
from gpt_jax.data.windows import Batch, Windows

ORDER = 1  # raise it when the batches of the same (data, seed, k) change
CYCLE = 4096  # slots of a mixture after which its pattern repeats: weights are kept to 1/4096


class Batches(Protocol):
    """Global batches by number. ``rows`` gives a part of one, for a process that feeds only its own devices."""

    batch: int

    def __getitem__(self, k: int) -> Batch: ...

    def rows(self, k: int, start: int, stop: int) -> Batch: ...


class Mixture:
    """The source of each position in the stream of windows, in exact shares, O(1) at any position.

    Source c has ``share[c]`` of every CYCLE consecutive places, spread evenly.
    """

    def __init__(self, weights: list[float]):
        goal_C = np.asarray(weights, float) / sum(weights) * (CYCLE if len(weights) > 1 else 1)
        taken_C = np.zeros(len(weights))
        pattern = []
        for slot in range(round(goal_C.sum())):
            behind_C = goal_C * (slot + 1) / goal_C.sum() - taken_C
            pattern.append(int(np.argmax(behind_C)))
            taken_C[pattern[-1]] += 1
        self._source_S = np.array(pattern)
        self._share_C = np.bincount(self._source_S, minlength=len(weights))
        rank_SC = np.cumsum(self._source_S[:, None] == np.arange(len(weights)), axis=0) - 1
        self._rank_S = rank_SC[np.arange(len(pattern)), self._source_S]
        self._slots = [np.flatnonzero(self._source_S == c) for c in range(len(weights))]

    def locate(self, places_B: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(source [B], how many places of that source come before [B]) of places in the stream."""
        cycle_B, slot_B = np.divmod(places_B, len(self._source_S))
        source_B = self._source_S[slot_B]
        return source_B, cycle_B * self._share_C[source_B] + self._rank_S[slot_B]

    def places_until(self, counts: list[int]) -> int:
        """The number of places before one of the sources would give more than ``counts[c]``."""
        ends = []
        for count, slots in zip(counts, self._slots, strict=True):
            cycle, nth = divmod(count, len(slots))
            ends.append(cycle * len(self._source_S) + int(slots[nth]))
        return min(ends)


@dataclass(frozen=True)
class Split:
    """The training or validation side of the data: one ``Windows`` per source and the rule that mixes them."""

    windows: tuple[Windows, ...]
    mixture: Mixture

    @property
    def tokens(self) -> int:
        """Tokens in one pass over all sources."""
        return sum(part.tokens for part in self.windows)

    @property
    def options(self) -> int:
        """Rows of T tokens that a window has."""
        return self.windows[0].options

    def overlapping(self, stride: int) -> "Split":
        """The split in windows that begin ``stride`` tokens apart; itself where that is 0. For ``fixed``.

        Raises:
          UserError: see ``gpt_jax.data.overlapping``.
        """
        return replace(self, windows=tuple(overlapping(part, stride) for part in self.windows))

    def batches(self, batch: int, seed: int) -> "Shuffled":
        """The endless stream of batches of ``batch`` windows, in an order of its own in every epoch of every source."""
        return Shuffled(self, batch, seed)

    def fixed(self, batch: int, count: int) -> "InOrder":
        """The first ``count`` batches (0 = all there are) of disjoint windows from the beginning, for evaluation."""
        return InOrder(self, batch, count)

    def gather(self, source_B: np.ndarray, window_B: np.ndarray, shift_B: np.ndarray) -> Batch:
        """The windows' batch, each row from its source."""
        if len(self.windows) == 1:
            return self.windows[0].gather(window_B, shift_B)
        batch: Batch = {}
        for c, part in enumerate(self.windows):
            rows = np.flatnonzero(source_B == c)
            for name, value in part.gather(window_B[rows], shift_B[rows]).items():
                batch.setdefault(name, np.zeros((len(source_B), *value.shape[1:]), value.dtype))[rows] = value
        return batch


class Shuffled:
    """See ``Batches``. Endless; grain's index shuffle orders the windows of every epoch, each exactly once."""

    def __init__(self, split: Split, batch: int, seed: int):
        self.batch = batch
        self._split, self._seed = split, seed
        # A source's order depends on its place in the mixture, so that two equal ones do not run in step.
        self._orders = [_order(part.count, _mix(seed, c)) for c, part in enumerate(split.windows)]

    def __getitem__(self, k: int) -> Batch:
        return self.rows(k, 0, self.batch)

    def rows(self, k: int, start: int, stop: int) -> Batch:
        """Rows ``start`` to ``stop`` of batch k."""
        source_B, nth_B = self._split.mixture.locate(k * self.batch + np.arange(start, stop))
        pairs = list(zip(source_B.tolist(), nth_B.tolist(), strict=True))
        window_B = np.array([self._orders[c][n] for c, n in pairs], np.int64)
        shift_B = np.array([self._shift(c, n) for c, n in pairs], np.int64)
        return self._split.gather(source_B, window_B, shift_B)

    def _shift(self, source: int, nth: int) -> int:
        part = self._split.windows[source]
        return _epoch_shift(self._seed, source, nth // part.count, part.slack)


class InOrder:
    """See ``Batches``. Finite; the last batch is filled up with rows of weight 0.

    Attributes:
      available: batches in the whole split, of which these are the first ``len``.
    """

    def __init__(self, split: Split, batch: int, count: int):
        self.batch = batch
        self._split = split
        self._places = split.mixture.places_until([part.in_order for part in split.windows])
        self.available = -(-self._places // batch)
        self._count = min(count, self.available) if count else self.available

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, k: int) -> Batch:
        return self.rows(k, 0, self.batch)

    def rows(self, k: int, start: int, stop: int) -> Batch:
        """Rows ``start`` to ``stop`` of batch k."""
        if not 0 <= k < self._count:
            raise IndexError(f"batch {k} of {self._count}")
        place_B = k * self.batch + np.arange(start, stop)
        beyond_B = place_B >= self._places
        source_B, window_B = self._split.mixture.locate(np.where(beyond_B, 0, place_B))
        batch = self._split.gather(source_B, window_B, np.zeros_like(window_B))
        batch["weights"][beyond_B] = 0
        return batch


def _order(count: int, seed: int) -> Any:
    """Place in the stream -> window: a new permutation of range(count) every ``count`` places."""
    import grain  # half a second, and only training needs it

    return grain.MapDataset.range(count).seed(seed).shuffle().repeat()


def _mix(*values: int) -> int:
    """32 bits that depend on all values; seeds must not be neighbours, as grain adds the epoch to its seed."""
    return int(np.random.SeedSequence(values).generate_state(1)[0])


@functools.lru_cache(maxsize=1024)
def _epoch_shift(seed: int, source: int, epoch: int, slack: int) -> int:
    return _mix(seed, source, epoch) % (slack + 1)
