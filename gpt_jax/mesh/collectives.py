"""Collectives of a number or a text over the processes of a run; free where there is one process."""

import jax
import numpy as np


def broadcast_from_first(value: int) -> int:
    """Process 0's value (32 bits), in every process. All processes must call it."""
    if jax.process_count() == 1:
        return value
    from jax.experimental import multihost_utils

    return int(multihost_utils.broadcast_one_to_all(np.int32(value)))


def all_reduce_max(value: int) -> int:
    """The largest value (32 bits) of any process, in every process. All processes must call it."""
    if jax.process_count() == 1:
        return value
    from jax.experimental import multihost_utils

    return int(np.max(multihost_utils.process_allgather(np.int32(value))))


def gather(text: str) -> list[str]:
    """The texts of all processes, by their rank, in every process. All processes must call it."""
    if jax.process_count() == 1:
        return [text]
    from jax.experimental import multihost_utils

    own = np.frombuffer(text.encode(), np.uint8)
    length = all_reduce_max(len(own))
    padded = np.zeros(length, np.uint8)
    padded[: len(own)] = own
    rows = multihost_utils.process_allgather(padded)
    return [row.tobytes().rstrip(b"\0").decode() for row in np.asarray(rows).reshape(jax.process_count(), -1)]
