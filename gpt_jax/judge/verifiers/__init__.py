"""Programmes that decide whether an answer is right: each reads the row that was asked, and the text of the answer."""

from collections.abc import Callable, Sequence

from gpt_jax.data.examples import Row

# Of rows and the answers to them: 1 for a right one and 0 for a wrong one, or a share; None where a row cannot be judged.
Verifier = Callable[[Sequence[tuple[Row, str]]], list[float | None]]


def each(judge: Callable[[Row, str], float | None]) -> Verifier:
    """The verifier that reads one answer at a time."""
    return lambda answers: [judge(row, text) for row, text in answers]
