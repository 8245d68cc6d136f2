"""Two answers to a prompt, of which one is preferred."""

import functools
from collections.abc import Sequence

import numpy as np

from gpt_jax.data.example_windows import ExampleWindows
from gpt_jax.data.forms import WHERE, Form, Made, Side, require, require_some, require_text
from gpt_jax.data.rendering import Encoded
from gpt_jax.errors import UserError
from gpt_jax.limits import Signed, is_within
from gpt_jax.registry import register


@register("data.forms", "pairs", examples=("pairs", "pairs(ends=True)"))
def pairs(*, ends: bool = False) -> Form:
    """The chosen one, then the rejected one; a pair of which one does not fit is left out whole.

    Args:
      ends: the token that ends a completion is read, and not written alone; and rows may have a "margin".
    """
    return functools.partial(_windows, ends)


def _windows(ends: bool, side: Side) -> Made:
    pieces = []
    for i, row in enumerate(side.rows):
        prompt, *answers = require(row, side.place(i), "prompt", "chosen", "rejected")
        for field, answer in zip(("chosen", "rejected"), answers, strict=True):
            require_text(answer, field, side.place(i))
            pieces.append(side.writer.answered(prompt, answer, side.place(i)))
    encoded = side.writer.encode(pieces)
    encoded = [read_to_the_end(found) for found in encoded] if ends else encoded
    kept = [i for i in range(len(side.rows)) if fits(side, [encoded[2 * i], encoded[2 * i + 1]])]
    rows = [[[2 * i], [2 * i + 1]] for i in kept]
    columns = {"margin": np.array([_margin(side, i) for i in kept], np.float32)} if ends else {}
    windows = ExampleWindows(encoded, rows, side.context, single=False, columns=columns)
    return require_some(Made(windows, len(side.rows) - len(kept)), side)


def read_to_the_end(found: Encoded) -> Encoded:
    """The same ids, of which the last is a token to read too, with a target after it that does not count."""
    return Encoded(np.append(found.ids, found.ids[-1:]), np.append(found.trained, False))


def _margin(side: Side, i: int) -> float:
    value = side.rows[i].get("margin", 0.0)
    if not is_within(value, Signed):
        raise UserError(f"{side.place(i)}: margin is {value!r:.80}", where=WHERE, allowed="a number")
    return float(value)


def fits(side: Side, sequences: Sequence) -> bool:
    """Whether each of the sequences has room in a row of its own."""
    return all(len(sequence.ids) <= side.context + 1 for sequence in sequences)
