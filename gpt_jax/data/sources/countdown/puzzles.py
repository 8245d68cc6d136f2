"""Puzzles that are made backwards: numbers are joined at random until one value is left, which is the target."""

from collections.abc import Callable
from dataclasses import dataclass

from gpt_jax.data.rows.generated import Draw
from gpt_jax.errors import UserError

TIMES = 10  # the largest of the numbers: a value is no more than that on the way, so that targets stay near them
ATTEMPTS = 1000  # at a puzzle
NUMBER, PRODUCT, SUM = range(3)  # the last operation of an expression: a later kind is put in parentheses
OPERATIONS: dict[str, tuple[Callable[[int, int], int], int]] = {
    "+": (int.__add__, SUM),
    "-": (int.__sub__, SUM),
    "*": (int.__mul__, PRODUCT),
}


@dataclass(frozen=True)
class Puzzle:
    """Numbers, in random order, the target, and an expression that comes to it and has each of them once."""

    numbers: list[int]
    target: int
    solution: str


@dataclass(frozen=True)
class _Part:
    value: int
    text: str
    kind: int = NUMBER

    def joined(self, operation: str, other: "_Part") -> "_Part":
        compute, kind = OPERATIONS[operation]
        left = f"({self.text})" if self.kind > kind else self.text
        # 9-(3-2) and 9-(3+2) need theirs; of 9+(3-2) and 2*(3*4) they say nothing.
        right = f"({other.text})" if other.kind > kind or operation == "-" and other.kind == kind else other.text
        return _Part(compute(self.value, other.value), f"{left}{operation}{right}", kind)


def puzzle(draw: Draw, count: int, largest: int, operations: str) -> Puzzle:
    """A puzzle of ``count`` numbers from 1 to ``largest``; its target is none of them.

    Raises:
      UserError: hardly any numbers can be joined so.
    """
    for _ in range(ATTEMPTS):
        numbers = [draw.between(1, largest) for _ in range(count)]
        found = _joined(draw, numbers, TIMES * largest, operations)
        if found is not None and found.value not in numbers:
            return Puzzle(numbers, found.value, found.text)
    raise UserError(
        f"hardly any {count} numbers up to {largest} come to a target up to {TIMES * largest} by {operations!r}",
        where="config.data.source",
        fix="more operations, or fewer numbers",
    )


def _joined(draw: Draw, numbers: list[int], most: int, operations: str) -> _Part | None:
    """Two parts at a time, by an operation whose value is from 1 to ``most``; None where two of them have none."""
    parts = [_Part(number, str(number)) for number in numbers]
    while len(parts) > 1:
        one, other = (parts.pop(draw.between(0, len(parts) - 1)) for _ in range(2))
        if other.value > one.value:
            one, other = other, one  # a difference is above 0
        possible = [joined for sign in operations if 0 < (joined := one.joined(sign, other)).value <= most]
        if not possible:
            return None
        parts.append(draw.one(possible))
    return parts[0]
