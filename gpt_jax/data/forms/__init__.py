"""How examples become the batches of an objective: one file per form (see ``train.objectives`` for their arrays).

A form is a function ``name(**arguments) -> Form``; a form makes the windows of one side of the data.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from gpt_jax.data.example_windows import ExampleWindows
from gpt_jax.data.examples import Row
from gpt_jax.data.prompt_windows import PromptWindows
from gpt_jax.data.rendering import Writer
from gpt_jax.errors import UserError

WHERE = "config.data.source"


@dataclass(frozen=True)
class Side:
    """One side of the data: its rows, where each comes from, and what they are written with.

    Attributes:
      context: T of the windows.
      pack: ``data.pack``.
    """

    rows: Sequence[Row]
    places: Sequence[str]
    writer: Writer
    context: int
    pack: str

    def place(self, i: int) -> str:
        return self.places[i] if self.places else f"row {i}"


@dataclass(frozen=True)
class Made:
    """Windows, and how many rows were left out because they do not fit into the context or are not to be learned, and how
    many were cut to fit."""

    windows: ExampleWindows | PromptWindows
    too_long: int = 0
    unwanted: int = 0
    cut: int = 0


Form = Callable[[Side], Made]


def specials(form: Form) -> tuple[str, ...]:
    """Names of the special tokens that a form writes, beside its template's: its attribute ``specials``."""
    return getattr(form, "specials", ())


def version(form: Form) -> tuple[int, ...]:
    """Part of the digest of the windows of a form that once made others: its attribute ``version``."""
    return (form.version,) if hasattr(form, "version") else ()


def require(row: Row, place: str, *fields: str) -> list[Any]:
    """The values of fields.

    Raises:
      UserError: one is missing; the row's place and the fields that it has are named.
    """
    for field in fields:
        if field not in row:
            raise UserError(
                f"{place} has no field {field!r}",
                where=WHERE,
                allowed=f"rows with {', '.join(fields)}",
                fix=f"its fields are {', '.join(map(str, row))}; another tune.objective may read them",
            )
    return [row[field] for field in fields]


def require_text(value: Any, field: str, place: str) -> None:
    """Raises ``UserError`` where a completion is empty: there would be nothing to learn."""
    if not value:
        raise UserError(f"{place}: {field} is empty", where=WHERE, allowed="a text, or messages")


def require_some(made: Made, side: Side) -> Made:
    """Raises ``UserError`` where no row is left."""
    if not made.windows.count:
        raise UserError(
            f"none of the {len(side.rows)} rows fits into model.context = {side.context} tokens",
            where="config.model.context",
            fix="raise model.context, or give shorter examples",
        )
    return made
