"""Rows to learn the answers of, each in a segment of its own of a packed row, or each in a row."""

import numpy as np

from gpt_jax.data.example_windows import ExampleWindows, packed
from gpt_jax.data.examples import Row
from gpt_jax.data.forms import WHERE, Form, Made, Side, require_some, require_text
from gpt_jax.data.rendering import Encoded, Writer
from gpt_jax.data.templates import Piece
from gpt_jax.errors import UserError
from gpt_jax.registry import register

ANSWERS = ("completion", "answer", "chosen")


@register("data.forms", "text")
def text() -> Form:
    """Dialogues, prompts with a completion, an answer, or the chosen one of two, and texts; of labelled ones the wanted."""
    return _windows


def _windows(side: Side) -> Made:
    pieces = {i: _pieces(row, side.place(i), side.writer) for i, row in enumerate(side.rows) if _is_wanted(row)}
    if not pieces:
        raise UserError(
            f"all {len(side.rows)} rows are labelled as unwanted",
            where=WHERE,
            fix="another tune.objective learns from such rows, as kto does; or label some true",
        )
    encoded = side.writer.encode(list(pieces.values()))
    for i, found in zip(pieces, encoded, strict=True):
        require_counted(found, side.place(i))
    kept = [found for found in encoded if len(found.ids) <= side.context + 1]
    numbers = range(len(kept))
    rows = [[i] for i in numbers] if side.pack == "padded" else packed([len(e.ids) - 1 for e in kept], side.context)
    counts = np.array([len(row) for row in rows], np.int32)
    windows = ExampleWindows(kept, [[row] for row in rows], side.context, single=True, columns={"examples": counts})
    return require_some(Made(windows, len(encoded) - len(kept), len(side.rows) - len(pieces)), side)


def _is_wanted(row: Row) -> bool:
    return "prompt" not in row or "label" not in row or row["label"]


def _pieces(row: Row, place: str, writer: Writer) -> list[Piece]:
    if not {"messages", "prompt"} & row.keys() and "text" in row:
        require_text(row["text"], "text", place)
        return writer.whole(row["text"], place)
    if "messages" in row:
        return writer.pieces(row["messages"], False, place)
    answer = next((field for field in ANSWERS if field in row), None)
    if "prompt" not in row or answer is None:
        raise UserError(
            f"{place} has no answer to learn",
            where=WHERE,
            allowed=f"messages, prompt with one of {', '.join(ANSWERS)}, or text",
            fix=f"its fields are {', '.join(map(str, row))}; another tune.objective may read them",
        )
    require_text(row[answer], answer, place)
    return writer.answered(row["prompt"], row[answer], place)


def require_counted(found: Encoded, place: str) -> None:
    """Raises ``UserError`` where no token of a row counts in the loss."""
    if not found.trained[1:].any():
        raise UserError(f"{place} has no answer of the assistant to learn", where=WHERE)
