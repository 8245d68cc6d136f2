"""Sequences of T tokens and their targets: cut from a split's tokens, or made up by a task."""

from typing import Protocol

import numpy as np

from gpt_jax.data.corpus import TokenArray
from gpt_jax.data.tasks import Task
from gpt_jax.errors import UserError

Batch = dict[str, np.ndarray]


class Windows(Protocol):
    """Random access to windows.

    Attributes:
      tokens: targets in one pass over the split.
      count: windows in an epoch of training.
      slack: an epoch may shift its windows by 0 to ``slack`` tokens.
      in_order: windows that ``gather`` accepts without a shift, for evaluation; at least ``count``.
    """

    tokens: int
    count: int
    slack: int
    in_order: int

    def gather(self, window_B: np.ndarray, shift_B: np.ndarray) -> Batch:
        """tokens, targets [B, T] int32, weights [B, T] float32, and where documents are kept apart segments and
        positions [B, T] int32."""
        ...


class TokenWindows:
    """Windows at shift + T * i: each reads T+1 tokens, so every token but a split's first is a target once."""

    def __init__(self, split: str, array: TokenArray, context: int, segments: bool):
        size = len(array.ids)
        if size < context + 1:
            raise UserError(
                f"model.context = {context} is longer than the {split} split, which has {size} tokens",
                where="config.model.context",
                allowed=f"up to {size - 1} (a window reads one more for its targets)" if size > 1 else "",
                fix="shorten model.context, give more text, or change data.valid_fraction",
            )
        self.tokens = size
        self.in_order = (size - 1) // context
        # One window fewer than fit leaves room to shift: over the epochs every token stands at every position.
        self.count = max(1, (size - context) // context)
        self.slack = size - 1 - self.count * context
        self._context = context
        self._starts = array.starts if segments else None
        self._windows_NT = np.lib.stride_tricks.sliding_window_view(array.ids, context + 1)

    def gather(self, window_B: np.ndarray, shift_B: np.ndarray) -> Batch:
        first_B = shift_B + window_B * self._context
        ids_BT = self._windows_NT[first_B]
        batch = {"tokens": ids_BT[:, :-1].astype(np.int32), "targets": ids_BT[:, 1:].astype(np.int32)}
        if self._starts is None:
            return batch | {"weights": np.ones(batch["tokens"].shape, np.float32)}
        begins_BT = document_begins(self._starts, first_B, self._context)
        # The first token of a document cannot be predicted from another document, which attention does not see.
        weights_BT = (~begins_BT[:, 1:]).astype(np.float32)
        return batch | {"weights": weights_BT} | segments_of(begins_BT[:, :-1])


class TaskWindows:
    """A task's windows of one stream (0 train, 1 valid)."""

    def __init__(self, task: Task, stream: int, segments: bool):
        self.count = self.in_order = (task.train, task.valid)[stream]
        self.slack = 0
        self.tokens = self.count * task.context
        self._task, self._stream = task, stream
        begins_T = np.arange(task.context) % task.unit == 0
        self._segments = segments_of(begins_T[None]) if segments else {}

    def gather(self, window_B: np.ndarray, shift_B: np.ndarray) -> Batch:
        ids_BT, weights_BT = self._task.fill(self._stream, window_B)
        batch = {"tokens": ids_BT[:, :-1], "targets": ids_BT[:, 1:], "weights": weights_BT}
        return batch | {name: np.repeat(value, len(window_B), 0) for name, value in self._segments.items()}


def document_begins(starts: np.ndarray, first_B: np.ndarray, context: int) -> np.ndarray:
    """[B, T+1] bool: whether a document begins at token t of the windows that begin at ``first_B``; never at t = 0."""
    low_B = np.searchsorted(starts, first_B, side="right")
    count_B = np.searchsorted(starts, first_B + context, side="right") - low_B
    row = np.repeat(np.arange(len(first_B)), count_B)
    nth = np.arange(count_B.sum()) - np.repeat(count_B.cumsum() - count_B, count_B)
    begins_BT = np.zeros((len(first_B), context + 1), bool)
    begins_BT[row, starts[low_B[row] + nth] - first_B[row]] = True
    return begins_BT


def segments_of(begins_BT: np.ndarray) -> Batch:
    """segments [B, T] (1, 2, ... within a row) and positions [B, T], which restart where a document begins."""
    t_T = np.arange(begins_BT.shape[1], dtype=np.int32)
    segments_BT = 1 + np.cumsum(begins_BT, axis=1, dtype=np.int32) - begins_BT[:, :1]
    last_begin_BT = np.maximum.accumulate(np.where(begins_BT, t_T, 0), axis=1)
    return {"segments": segments_BT.astype(np.int32), "positions": (t_T - last_begin_BT).astype(np.int32)}
