"""Rows that were read, and the two sides made of them: by content, or from a split of their own."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from gpt_jax.data import cache
from gpt_jax.data.documents import Documents
from gpt_jax.data.examples import Examples, Row
from gpt_jax.data.rows import holdout
from gpt_jax.data.rows.fields import BadRow, row_of
from gpt_jax.errors import UserError

WHERE = "config.data.source"


@dataclass(frozen=True)
class Collected:
    """Rows, where each stands, a key that equal ones share, and a digest of all of it."""

    rows: tuple[Row, ...]
    places: tuple[str, ...]
    keys: tuple[bytes, ...]
    digest: str

    def part(self, which: list[int]) -> "Collected":
        return Collected(
            tuple(self.rows[i] for i in which),
            tuple(self.places[i] for i in which),
            tuple(self.keys[i] for i in which),
            self.digest,
        )


def collected(given: Iterable[tuple[str, Mapping[str, Any]]], fields: Mapping[str, str]) -> Collected:
    """The rows of (place, fields) pairs; ``fields`` as ``rows.fields.row_of`` takes them.

    Raises:
      UserError: one is no row of examples.
    """
    rows, places, keys = [], [], []
    for place, values in given:
        try:
            row = row_of(values, fields)
        except BadRow as bad:
            raise bad.at(place) from None
        rows.append(row)
        places.append(place)
        keys.append(json.dumps(row, sort_keys=True, default=str).encode())
    return Collected(tuple(rows), tuple(places), tuple(keys), cache.digest(*keys))


def sides(train: Collected, heldout: Collected | None, fraction: float, name: str) -> Examples | Documents:
    """Both sides: ``heldout``, or ``fraction`` of the rows, equal ones together. Running text where all rows are {text}.

    Raises:
      UserError: ``heldout`` has rows of ``train``, or no rows of ``train`` differ, so that none can be held out.
    """
    digest = cache.digest("rows", train.digest, heldout.digest if heldout else fraction)
    if heldout is None:
        train, heldout = _split(train, fraction, name)
    else:
        _check_apart(train, heldout)
    if all(set(row) == {"text"} for side in (train, heldout) for row in side.rows):
        return _documents(train, digest, _documents(heldout, digest, None))
    return Examples(train.rows, heldout.rows, digest, (train.places, heldout.places))


def _documents(side: Collected, digest: str, heldout: Documents | None) -> Documents:
    return Documents(tuple(map(str, range(len(side.rows)))), lambda i: side.rows[i]["text"], digest, heldout)


def _split(whole: Collected, fraction: float, name: str) -> tuple[Collected, Collected]:
    held = holdout.held([holdout.draw(key) for key in whole.keys], fraction)
    if all(held):
        raise UserError(
            f"{name} has one row, or several that are equal, so that none can be held out",
            where=WHERE,
            fix="name other rows for validation with valid=",
        )
    train, heldout = ([i for i, out in enumerate(held) if out == side] for side in (False, True))
    return whole.part(train), whole.part(heldout)


def _check_apart(train: Collected, heldout: Collected) -> None:
    places = dict(zip(train.keys, train.places, strict=True))
    common = [(place, places[key]) for key, place in zip(heldout.keys, heldout.places, strict=True) if key in places]
    if common:
        raise UserError(
            f"{len(common)} of the rows for validation are among those for training, such as {common[0][0]}, which is the "
            f"same as {common[0][1]}",
            where=WHERE,
            fix="remove them from one of the two, or leave out valid= to hold rows out",
        )
