"""Rows that a programme makes: each a function of (seed, side, number), made when it is read, with its content's side."""

import json
from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypeVar, overload

import numpy as np

from gpt_jax.config import Config
from gpt_jax.data import cache
from gpt_jax.data.examples import Examples, Row
from gpt_jax.data.rows import holdout
from gpt_jax.data.tasks import TRAIN_STREAM, VALID_STREAM, generator
from gpt_jax.errors import UserError
from gpt_jax.limits import Limits

ATTEMPTS = 2000  # contents drawn for a row until one stands on its side
PROBED = 16  # rows of either side that are in the digest, so that another programme has another one
Amount = Annotated[int, Limits(1, 2**20)]  # of rows on a side: each is kept in memory once it is encoded
T = TypeVar("T")


class Draw:
    """Random choices of one row."""

    def __init__(self, numbers: np.random.Generator):
        self._numbers = numbers

    def chance(self, probability: float) -> bool:
        return self._numbers.random() < probability

    def between(self, least: int, most: int) -> int:
        """A whole number from ``least`` to ``most``, both included."""
        return least + int(self._numbers.random() * (most - least + 1))

    def one(self, items: Sequence[T]) -> T:
        return items[int(self._numbers.random() * len(items))]

    def some(self, items: Sequence[T], count: int) -> list[T]:
        """``count`` different places of ``items``, in random order."""
        left = list(items)
        return [left.pop(int(self._numbers.random() * len(left))) for _ in range(count)]


Make = Callable[[Draw, bool], tuple[str, Row]]


class Generated(Sequence[Row]):
    """The rows of one side. See ``generated``."""

    def __init__(self, make: Make, count: int, seed: int, stream: int, fraction: float):
        self._make, self._count, self._seed, self._stream, self._fraction = make, count, seed, stream, fraction

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, i: int) -> Row: ...
    @overload
    def __getitem__(self, i: slice) -> Sequence[Row]: ...
    def __getitem__(self, i: int | slice) -> Row | Sequence[Row]:
        if isinstance(i, slice):
            return [self[n] for n in range(*i.indices(self._count))]
        if not 0 <= i < self._count:
            raise IndexError(i)
        draw = Draw(generator(self._seed, self._stream, i))
        held = self._stream == VALID_STREAM
        for _ in range(ATTEMPTS):
            content, row = self._make(draw, held)
            if (holdout.draw(content.encode()) < self._fraction) == held:
                return row
        raise UserError(
            f"there are too few different rows to hold out {self._fraction:g} of them",
            where="config.data.source",
            fix="change data.valid_fraction, or choose arguments of the source with more variety",
        )


def generated(config: Config, make: Make, *arguments: Any, count: int, valid: int, seed: int) -> Examples:
    """Examples made on demand.

    Args:
      make: (random choices, whether for the validation side) -> (content, row). The content decides the side that a row is
        used on: of all contents ``data.valid_fraction`` are never trained on.
      arguments: all that the rows depend on besides the seed, for the digest.
      count, valid: rows on the training and on the validation side.
    """
    fraction = config.data.valid_fraction
    train = Generated(make, count, seed, TRAIN_STREAM, fraction)
    heldout = Generated(make, valid, seed, VALID_STREAM, fraction)
    probe = json.dumps([*train[:PROBED], *heldout[:PROBED]])
    return Examples(train, heldout, cache.digest("generated", probe, repr(arguments), count, valid, seed, fraction))
