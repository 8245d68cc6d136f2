"""Answers that are wanted or not, each beside another row's answer to the same prompt, which KTO measures drift by."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from gpt_jax.data.example_windows import ExampleWindows
from gpt_jax.data.forms import WHERE, Form, Made, Side, require, require_some, require_text
from gpt_jax.data.forms.pairs import fits
from gpt_jax.errors import UserError
from gpt_jax.registry import register


@register("data.forms", "labelled")
def labelled() -> Form:
    """Row i with its own completion, then with that of the next row with another prompt (Ethayarajh et al. 2024, section
    4.1)."""
    return LabelledWindows()


@dataclass(frozen=True)
class LabelledWindows:
    """See ``labelled``."""

    version: ClassVar[int] = 1  # before, the next row's completion whatever its prompt was

    def __call__(self, side: Side) -> Made:
        found = [require(row, side.place(i), "prompt", "completion", "label") for i, row in enumerate(side.rows)]
        for i, (_, completion, _) in enumerate(found):
            require_text(completion, "completion", side.place(i))
        others = _next_with_another([prompt for prompt, _, _ in found])
        pieces = [
            side.writer.answered(prompt, answer, side.place(i))
            for i, ((prompt, own, _), other) in enumerate(zip(found, others, strict=True))
            for answer in (own, found[other][1])
        ]
        encoded = side.writer.encode(pieces)
        kept = [i for i in range(len(found)) if fits(side, [encoded[2 * i], encoded[2 * i + 1]])]
        rows = [[[2 * i], [2 * i + 1]] for i in kept]
        labels = np.array([bool(found[i][2]) for i in kept], np.float32)
        windows = ExampleWindows(encoded, rows, side.context, single=False, columns={"label": labels})
        return require_some(Made(windows, len(found) - len(kept)), side)


def _next_with_another(prompts: Sequence[Any]) -> list[int]:
    """Of each row the next one, after the last the first, whose prompt is another.

    Raises:
      UserError: there is but one prompt.
    """
    count = len(prompts)
    last = next((i for i in reversed(range(count)) if prompts[i] != prompts[0]), None)
    if last is None:
        raise UserError(
            f"all {count} rows of a side have the same prompt, and drift is measured by answers to another one",
            where=WHERE,
            allowed="rows of two prompts or more, for training and for validation",
            fix="give more prompts, or hold out more of them: data.valid_fraction",
        )
    others = [0] * count
    for i in reversed(range(last + 1)):
        others[i] = (i + 1) % count if prompts[(i + 1) % count] != prompts[i] else others[i + 1]
    for i in range(last + 1, count):
        others[i] = others[0]
    return others
