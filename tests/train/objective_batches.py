"""Small random batches of every form of examples, and layouts of them that mean the same."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from gpt_jax import registry

Batch = dict[str, np.ndarray]
OPTIONS = {"text": 1, "pairs": 2, "labelled": 2, "classes": 2, "prompts": 1}  # sequences of a row
ALONE = ("text", "prompts")  # forms whose arrays have no axis of sequences
# What each target of a form has, and how much it varies around log(1 / vocab) or 0: the policy has moved since it wrote.
PER_TARGET = {"prompts": {"old": 0.3, "reference": 1.0, "advantage": 1.0, "value": 1.0, "returns": 1.0}}
# The columns of a row of each form.
COLUMNS: dict[str, Callable[[np.random.Generator], dict]] = {
    "text": lambda draw: {},
    "pairs": lambda draw: {"reference": draw.normal(-15, 5, 2).astype(np.float32)},
    "labelled": lambda draw: {
        "reference": draw.normal(-15, 5, 2).astype(np.float32),
        "label": np.float32(draw.integers(2)),
    },
    "classes": lambda draw: {"class": np.int32(draw.integers(2))},
    "prompts": lambda draw: {"limit": np.float32(draw.integers(5, 9))},
}


@dataclass(frozen=True)
class Row:
    """The sequences of a row, each (ids [n + 1], whether target i counts [n]), its columns, and what each target of its
    sequences has [n]; none: filling."""

    sequences: tuple[tuple[np.ndarray, np.ndarray], ...]
    columns: dict
    per_target: dict = field(default_factory=dict)


def form_of(form: str) -> str:
    return registry.parse(form)[0]


def rows(form: str, count: int, vocab: int, most: int, seed: int = 0, ends: bool = False) -> list[Row]:
    """Rows of a prompt that does not count and completions of unequal lengths that do, of at most ``most`` targets.

    Args:
      ends: the last token of a completion is read too, with a target after it that does not count.
    """
    draw, found = np.random.default_rng(seed), []
    for _ in range(count):
        prompt = draw.integers(vocab, size=draw.integers(2, most // 2))
        sequences = []
        for _ in range(OPTIONS[form]):
            ids = np.concatenate([prompt, draw.integers(vocab, size=draw.integers(1, most - len(prompt) + 1))])
            counts = np.arange(1, len(ids)) >= len(prompt)
            ids, counts = (np.append(ids, 0), np.append(counts, False)) if ends else (ids, counts)
            sequences.append((ids.astype(np.int32), counts))
        found.append(Row(tuple(sequences), COLUMNS[form](draw), _per_target(form, vocab, draw, len(sequences[0][1]))))
    return found


def _per_target(form: str, vocab: int, draw: np.random.Generator, *shape: int) -> Batch:
    varied = {name: draw.normal(0, size, shape).astype(np.float32) for name, size in PER_TARGET.get(form, {}).items()}
    logs = {name: varied[name] - np.float32(np.log(vocab)) for name in ("old", "reference") if name in varied}
    return varied | logs


def filling(form: str, seed: int = 0) -> Row:
    return Row((), COLUMNS[form](np.random.default_rng(1000 + seed)))


def laid(form: str, found: Sequence[Row], context: int, vocab: int, *, left: bool = False, garbage: int = 0) -> Batch:
    """A batch of one sequence to a row, with the padding after it or before it.

    Args:
      garbage: the seed of all that must not matter: padding, and targets that do not count.
    """
    draw = np.random.default_rng(2000 + garbage)
    shape = (len(found), OPTIONS[form], context)
    batch = {name: draw.integers(vocab, size=shape).astype(np.int32) for name in ("tokens", "targets")}
    batch |= {name: np.zeros(shape, np.int32) for name in ("segments", "positions")}
    batch["weights"] = np.zeros(shape, np.float32)
    batch |= _per_target(form, vocab, draw, *shape)
    at_BO = np.zeros(shape[:2], np.int32)
    for b, row in enumerate(found):
        for c, (ids, counts) in enumerate(row.sequences):
            begin = context - len(counts) if left else 0
            place(batch, (b, c), begin, ids, counts, 1)
            for name, array in row.per_target.items():
                batch[name][b, c, begin : begin + len(counts)][counts] = array[counts]
            at_BO[b, c] = begin + len(counts) - 1
    if form in ALONE:
        batch = {name: array[:, 0] for name, array in batch.items()}
    batch |= {name: np.stack([row.columns[name] for row in found]) for name in found[0].columns}
    return batch | ({"at": at_BO} if form == "classes" else {})


def together(found: Sequence[Row], count: int, context: int, vocab: int) -> Batch:
    """A batch of ``count`` rows of text in which two sequences share a row, and filling below them."""
    batch = laid("text", [filling("text")] * count, context, vocab)
    for i, row in enumerate(found):
        ((ids, counts),) = row.sequences
        begin = len(found[i - 1].sequences[0][1]) if i % 2 else 0
        place(batch, (i // 2,), begin, ids, counts, 1 + i % 2)
    return batch


def place(batch: Batch, where: tuple[int, ...], begin: int, ids: np.ndarray, counts: np.ndarray, segment: int) -> None:
    """Writes a sequence into a row; targets that do not count stay as they are."""
    end = begin + len(counts)
    row = {name: array[where] for name, array in batch.items() if name in ("tokens", "targets", "weights")}
    row["tokens"][begin:end] = ids[:-1]
    row["targets"][begin:end] = np.where(counts, ids[1:], row["targets"][begin:end])
    row["weights"][begin:end] = counts
    batch["segments"][where][begin:end] = segment
    batch["positions"][where][begin:end] = np.arange(end - begin)
