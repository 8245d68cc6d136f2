"""Synthetic sequences: window i of a task is a pure function of i, so the data is endless and never stored."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from gpt_jax.errors import UserError

ENDLESS = 2**31 - 1  # training windows of a task that has no end; more than any run reads
VALID = 512  # validation windows of such a task

TRAIN_STREAM, VALID_STREAM, TABLE_STREAM = 0, 1, 2  # the last: what all windows of a task share
Fill = Callable[[int, np.ndarray], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Task:
    """What a synthetic source returns.

    Attributes:
      vocab: ids are below it.
      context: T, for which the windows are made.
      fill: (stream 0 train or 1 valid, window numbers [B]) -> (tokens [B, T+1] int32, weights [B, T] float32), where
        weights[:, t] says whether token t+1 can be predicted from those before it and counts in the loss.
      digest: of the task and its arguments.
      train, valid: number of windows in each stream.
      unit: tokens of an independent example within a window; data.pack="segments" keeps them apart.
      facts: what is known about the task, such as its entropy rate in nats per token.
    """

    vocab: int
    context: int
    fill: Fill
    digest: str
    train: int = ENDLESS
    valid: int = VALID
    unit: int = ENDLESS
    facts: dict[str, float] = field(default_factory=dict)


def generator(seed: int, stream: int, window: int = 0) -> np.random.Generator:
    """The random numbers of one window, independent of all others (Philox: Salmon et al. 2011)."""
    return np.random.Generator(np.random.Philox(key=[seed % 2**64, stream], counter=[0, 0, int(window), 0]))


def integers(seed: int, stream: int, windows_B: np.ndarray, high: int, count: int) -> np.ndarray:
    """[B, count] int32, uniform in [0, high): row b belongs to window b alone."""
    rows = [generator(seed, stream, i).integers(high, size=count, dtype=np.int32) for i in windows_B]
    return np.array(rows, np.int32).reshape(len(windows_B), count)


def weights(windows_B: np.ndarray, context: int, counted: Sequence[int] | np.ndarray) -> np.ndarray:
    """[B, T] float32: 1 where the target is one of the window's tokens ``counted`` (positions in 1..T), else 0."""
    row = np.zeros(context, np.float32)
    row[np.asarray(counted) - 1] = 1
    return np.repeat(row[None], len(windows_B), axis=0)


def need(what: str, value: int, least: int, why: str) -> None:
    """Raises ``UserError`` where ``value`` is below ``least``."""
    if value < least:
        raise UserError(f"{what} = {value} is too small: {why}", where="config.data.source", allowed=f"{least} or more")
