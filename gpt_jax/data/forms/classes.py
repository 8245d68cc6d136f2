"""Texts that belong to a class: one text, two, two in both orders, or options of which one is right (Radford et al. 2018,
figure 1)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np

from gpt_jax.data.example_windows import ExampleWindows
from gpt_jax.data.examples import Row
from gpt_jax.data.forms import WHERE, Form, Made, Side, require, require_some
from gpt_jax.data.rendering import Encoded
from gpt_jax.data.tokenizers import Tokenizer, writable
from gpt_jax.errors import UserError, did_you_mean
from gpt_jax.limits import Limits
from gpt_jax.registry import register

SPECIALS = ("<|start|>", "<|delimiter|>", "<|extract|>")
CLASSIFICATION, SIMILARITY, CHOICE = KINDS = ("classification", "similarity", "choice")
Classes = Annotated[int, Limits(2, 2**12)] | tuple[str, ...]  # how many, or their names


@dataclass(frozen=True)
class Read:
    """The texts of a row and the orders in which they are read, each one text or two; its class; and of each text, which
    share of a row it is cut to: that of the first texts of orders, or that of the last."""

    texts: Sequence[str]
    orders: Sequence[tuple[int, ...]]
    label: int
    slots: Sequence[int]


@register(
    "data.forms",
    "classes",
    examples=("classes(classes=3)", "classes(classes=3, kind='similarity')", "classes(classes=4, kind='choice')"),
)
def classes(*, classes: Classes, kind: str = CLASSIFICATION) -> Form:
    """Start, text, extract; or start, text, delimiter, text, extract. Texts are cut so that the extract token is read.

    Args:
      classes: how many there are, or their names; of choices, the most options of a row.
      kind: classification: {"text"}, or {"texts"} in this order · similarity: {"texts"} in both orders · choice:
        {"prompt", "options"}, a sequence for each option, ``class`` being the right one.
    """
    return ClassWindows(classes if isinstance(classes, tuple) else tuple(map(str, range(classes))), kind)


@dataclass(frozen=True)
class ClassWindows:
    """See ``classes``. ``specials`` are the special tokens that it writes."""

    names: tuple[str, ...]
    kind: str
    specials: ClassVar[tuple[str, ...]] = SPECIALS

    def __call__(self, side: Side) -> Made:
        rows = [READERS[self.kind](row, self.names, side.place(i)) for i, row in enumerate(side.rows)]
        encoded = iter(side.writer.tokenizer.encode_many([text for row in rows for text in row.texts]))
        orders = len(self.names) if self.kind == CHOICE else 2 if self.kind == SIMILARITY else 1
        sequences: list[Encoded] = []
        windows: list[list[list[int]]] = []
        at = np.full((len(rows), orders), -1, np.int32)
        cut = 0
        for i, row in enumerate(rows):
            ids = [next(encoded) for _ in row.texts]
            kept = _kept(ids, row, side)
            cut += any(len(short) < len(whole) for short, whole in zip(kept, ids, strict=True))
            windows.append([[] for _ in range(orders)])
            for order, texts in enumerate(row.orders):
                windows[i][order].append(len(sequences))
                sequences.append(_sequence(side.writer.tokenizer, [kept[text] for text in texts]))
                at[i, order] = len(sequences[-1].ids) - 2
        labels = np.array([row.label for row in rows], np.int32)
        columns = {"at": at, "class": labels}
        made = ExampleWindows(sequences, windows, side.context, single=False, columns=columns)
        return require_some(Made(made, cut=cut), side)


def _sequence(tokenizer: Tokenizer, texts: Sequence[np.ndarray]) -> Encoded:
    """Its last id is there so that the extract token before it is read; nothing learns to write it."""
    start, delimiter, extract = map(tokenizer.special, SPECIALS)
    opening = [*tokenizer.opening, start]
    parts = [np.array(opening, np.int32), texts[0]]
    for text in texts[1:]:
        parts += [np.array([delimiter], np.int32), text]
    ids = np.concatenate([*parts, np.full(2, extract, np.int32)])
    trained = np.ones(len(ids), bool)
    trained[: len(opening)] = trained[-1] = False
    return Encoded(ids, trained)


def _kept(ids: Sequence[np.ndarray], row: Read, side: Side) -> list[np.ndarray]:
    """The beginnings of texts that fit: where two share a row, each has half of it, and what the other leaves."""
    most = [max((len(text) for text, slot in zip(ids, row.slots, strict=True) if slot == s), default=0) for s in (0, 1)]
    count = max(row.slots) + 1
    room = side.context - len(side.writer.tokenizer.opening) - 1 - count
    if room < count:
        raise UserError(
            f"model.context = {side.context} has no room for a text between its special tokens",
            where="config.model.context",
            fix="raise model.context",
        )
    first = min(most[0], max(room - room // 2, room - most[1]))
    shares = (first, room - first)
    return [text[: shares[slot]] for text, slot in zip(ids, row.slots, strict=True)]


def _one_or_two(row: Row, names: Sequence[str], place: str) -> Read:
    if "texts" in row:
        return Read(_two(row, place), [(0, 1)], _label(row, names, place), (0, 1))
    (text,) = require(row, place, "text")
    return Read([_text(text, "text", place)], [(0,)], _label(row, names, place), (0,))


def _both_orders(row: Row, names: Sequence[str], place: str) -> Read:
    return Read(_two(row, place), [(0, 1), (1, 0)], _label(row, names, place), (0, 1))


def _choice(row: Row, names: Sequence[str], place: str) -> Read:
    prompt, options = require(row, place, "prompt", "options")
    if not isinstance(options, list | tuple) or not 2 <= len(options) <= len(names):
        raise UserError(
            f"{place}: options are {options!r:.80}",
            where=WHERE,
            allowed=f"2 to {len(names)} texts, as many as classes in tune.objective",
        )
    texts = [_text(prompt, "prompt", place), *(_text(option, "an option", place) for option in options)]
    orders = [(0, i) for i in range(1, len(texts))]
    return Read(texts, orders, _label(row, names[: len(options)], place), (0, *(1 for _ in options)))


READERS = {CLASSIFICATION: _one_or_two, SIMILARITY: _both_orders, CHOICE: _choice}


def _two(row: Row, place: str) -> list[str]:
    (texts,) = require(row, place, "texts")
    if not isinstance(texts, list | tuple) or len(texts) != 2:
        raise UserError(f"{place}: texts are {texts!r:.80}", where=WHERE, allowed="two texts")
    return [_text(text, "one of the texts", place) for text in texts]


def _text(value: object, field: str, place: str) -> str:
    if not isinstance(value, str):
        raise UserError(f"{place}: {field} is {value!r:.80}", where=WHERE, allowed="a text")
    return writable(value)


def _label(row: Row, names: Sequence[str], place: str) -> int:
    (value,) = require(row, place, "class")
    if isinstance(value, str) and value in names:
        return list(names).index(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(names):
        return int(value)
    raise UserError(
        f"{place} has the class {value!r}",
        where=WHERE,
        allowed=f"0 to {len(names) - 1}, or one of {', '.join(names)}",
        fix=did_you_mean(str(value), list(names)) or "tune.objective says how many classes there are",
    )
