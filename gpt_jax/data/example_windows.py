"""Windows of examples: several in a row, each by itself, or one a row where an objective compares rows."""

import copy
from collections.abc import Mapping, Sequence

import numpy as np

from gpt_jax.data.rendering import Encoded
from gpt_jax.data.windows import Batch

OPEN_ROWS = 64  # rows that packing still adds to


class ExampleWindows:
    """See ``Windows``. What does not fit into T + 1 tokens must have been left out.

    Args:
      encoded: the sequences.
      rows: of each window, of each of its O options, the sequences that stand in it, one after another. Without options
        (``O`` = 1 and ``single``) arrays are [B, T], else [B, O, T].
      columns: further arrays, with a leading axis of windows.
    """

    slack = 0

    def __init__(
        self,
        encoded: Sequence[Encoded],
        rows: Sequence[Sequence[Sequence[int]]],
        context: int,
        *,
        single: bool,
        columns: Mapping[str, np.ndarray],
    ):
        self.count = self.in_order = len(rows)
        self.tokens = sum(len(encoded[i].ids) - 1 for options in rows for row in options for i in row)
        self.options = len(rows[0]) if rows else 1
        self.columns = dict(columns)
        self._encoded, self._rows, self._context, self._single = encoded, rows, context, single

    def with_column(self, name: str, values: np.ndarray) -> "ExampleWindows":
        """The same windows with one more array, or another one of that name."""
        other = copy.copy(self)
        other.columns = {**self.columns, name: values}
        return other

    def gather(self, window_B: np.ndarray, shift_B: np.ndarray) -> Batch:
        shape = (len(window_B), self.options, self._context)
        batch = {name: np.zeros(shape, np.int32) for name in ("tokens", "targets", "segments", "positions")}
        batch["weights"] = np.zeros(shape, np.float32)
        for b, window in enumerate(window_B):
            for o, row in enumerate(self._rows[window]):
                self._fill({name: array[b, o] for name, array in batch.items()}, row)
        if self._single:
            batch = {name: array[:, 0] for name, array in batch.items()}
        else:  # one sequence a row: the filling comes after it, where nothing looks
            del batch["segments"], batch["positions"]
        return batch | {name: column[window_B] for name, column in self.columns.items()}

    def _fill(self, arrays: Batch, row: Sequence[int]) -> None:
        begin = 0
        for number, i in enumerate(row, 1):
            ids, trained = self._encoded[i].ids, self._encoded[i].trained
            end = begin + len(ids) - 1
            arrays["tokens"][begin:end], arrays["targets"][begin:end] = ids[:-1], ids[1:]
            arrays["weights"][begin:end] = trained[1:]
            arrays["segments"][begin:end] = number
            arrays["positions"][begin:end] = np.arange(end - begin)
            begin = end


def packed(lengths: Sequence[int], context: int) -> list[list[int]]:
    """Rows of sequences, by number, of together at most ``context`` tokens: each goes to the first of the last few rows that
    has room."""
    rows: list[list[int]] = []
    room: list[int] = []
    for i, length in enumerate(lengths):
        first = max(0, len(rows) - OPEN_ROWS)
        row = next((r for r in range(first, len(rows)) if room[r] >= length), len(rows))
        if row == len(rows):
            rows.append([])
            room.append(context)
        rows[row].append(i)
        room[row] -= length
    return rows
