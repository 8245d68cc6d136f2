"""Which side an item stands on, train or validation: a function of its content alone, so that equal ones share a side."""

import hashlib
from collections.abc import Sequence


def draw(content: bytes) -> float:
    """A number in [0, 1) that depends on the content alone."""
    return int.from_bytes(hashlib.sha256(content).digest()[:8], "big") / 2**64


def held(draws: Sequence[float], fraction: float) -> list[bool]:
    """Whether each item is held out: those that draw less than ``fraction``; never none and never all, where two differ."""
    different = sorted(set(draws))
    limit = min(max(fraction, different[0]), different[max(len(different) - 2, 0)])
    return [drawn <= limit for drawn in draws]
