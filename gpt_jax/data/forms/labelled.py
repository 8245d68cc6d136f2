"""Answers that are wanted or not, each beside another row's answer to the same prompt, which KTO measures drift by."""

import numpy as np

from gpt_jax.data.example_windows import ExampleWindows
from gpt_jax.data.forms import Form, Made, Side, require, require_some, require_text
from gpt_jax.data.forms.pairs import fits
from gpt_jax.registry import register


@register("data.forms", "labelled")
def labelled() -> Form:
    """Row i with its own completion, then with that of row i + 1 (Ethayarajh et al. 2024, section 4.1)."""
    return _windows


def _windows(side: Side) -> Made:
    found = [require(row, side.place(i), "prompt", "completion", "label") for i, row in enumerate(side.rows)]
    for i, (_, completion, _) in enumerate(found):
        require_text(completion, "completion", side.place(i))
    others = [found[(i + 1) % len(found)][1] for i in range(len(found))]
    pieces = [
        side.writer.answered(prompt, answer, side.place(i))
        for i, ((prompt, own, _), other) in enumerate(zip(found, others, strict=True))
        for answer in (own, other)
    ]
    encoded = side.writer.encode(pieces)
    kept = [i for i in range(len(found)) if fits(side, [encoded[2 * i], encoded[2 * i + 1]])]
    rows = [[[2 * i], [2 * i + 1]] for i in kept]
    labels = np.array([bool(found[i][2]) for i in kept], np.float32)
    windows = ExampleWindows(encoded, rows, side.context, single=False, columns={"label": labels})
    return require_some(Made(windows, len(found) - len(kept)), side)
