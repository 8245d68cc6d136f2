"""Which statements of a long text a model finds again, by where they stand and by how long the text is.

The rows are those of a source with lengths and depths (``needle``, ``variables``), on the side that is not trained on. An
answer is right where what is written, greedily, begins with it and not with a longer number.
"""

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gpt_jax import bars, registry
from gpt_jax.config import Config
from gpt_jax.data.examples import Examples, Row
from gpt_jax.data.rendering import Writer
from gpt_jax.data.tokenizers import Tokenizer
from gpt_jax.errors import UserError
from gpt_jax.plotting import panels, save
from gpt_jax.sample.decode import Decoder
from gpt_jax.sample.outputs.requests import requests
from gpt_jax.sample.outputs.writing import written
from gpt_jax.sample.prompts import prompt_of
from gpt_jax.storage import write_json, writing

WHERE = "--source"


@dataclasses.dataclass(frozen=True)
class Cell:
    """Texts of one length with what is asked for at one depth.

    Attributes:
      right: answers.
      count: texts.
      low, high: the 95% interval of the share that is right (Wilson 1927).
    """

    length: int
    depth: float
    right: int
    count: int
    low: float
    high: float


def rows_of(config: Config, source: str, length: int, depth: float, count: int) -> Sequence[Row]:
    """Rows of one cell, none of which a model of this source was trained on.

    Raises:
      UserError: the source has no lengths and depths, or its texts cannot be so short.
    """
    name, arguments = registry.parse(source, WHERE, "data.sources")
    given = {**arguments, "lengths": [length], "depths": [depth], "count": 1, "valid": count}
    call = f"{name}({', '.join(f'{key}={value!r}' for key, value in given.items())})"
    made = registry.build("data.sources", call, config, where=WHERE)
    assert isinstance(made, Examples)
    return made.valid


def measure(
    config: Config,
    decoder: Decoder,
    tokenizer: Tokenizer | None,
    writer: Writer | None,
    cells: Sequence[tuple[int, float, Sequence[Row]]],
) -> list[Cell]:
    """Asks for every row of (length, depth, rows).

    Raises:
      UserError: there is no tokenizer, or a text does not fit into the context.
    """
    if tokenizer is None:
        raise UserError("this run's data has no tokenizer, so nothing can be asked", where="config.data.source")
    from scipy import stats

    rows = [row for _, _, part in cells for row in part]
    longest = max(len(tokenizer.encode(row["answer"])) for row in rows)
    sample = dataclasses.replace(config.sample, temperature=0.0, max_new_tokens=longest + 1, num_return_sequences=1)
    prompts = [prompt_of(row["prompt"], f"row {i + 1}", tokenizer, writer) for i, row in enumerate(rows)]
    asked = requests(prompts, config.model, sample, True, tokenizer)
    right = []
    with bars.bar(total=len(rows), desc="asking", unit="text") as bar:
        for (_, text), row in zip(written(decoder, asked, tokenizer), rows, strict=True):
            right.append(is_right(text.text or "", row["answer"]))
            bar.update()
    found = []
    for length, depth, part in cells:
        hits, right = sum(right[: len(part)]), right[len(part) :]
        interval = stats.binomtest(hits, len(part)).proportion_ci(method="wilson")
        found.append(Cell(length, depth, hits, len(part), float(interval.low), float(interval.high)))
    return found


def is_right(text: str, answer: str) -> bool:
    """Whether a text begins with an answer, spaces aside, and not with a longer word or number."""
    return re.match(rf"\s*{re.escape(answer.strip())}(?!\w)", text) is not None


def draw(cells: Sequence[Cell], title: str) -> Any:
    """The share of right answers, depth by length."""
    lengths, depths = sorted({cell.length for cell in cells}), sorted({cell.depth for cell in cells})
    figure, axis = panels(1.6 + 0.9 * len(lengths), 1.6 + 0.5 * len(depths))
    shares = {(cell.depth, cell.length): cell.right / cell.count for cell in cells}
    drawn = axis.imshow(
        [[shares[depth, length] for length in lengths] for depth in depths],
        cmap="cividis",
        vmin=0,
        vmax=1,
        aspect="auto",
    )
    axis.grid(False)
    for i, depth in enumerate(depths):
        for j, length in enumerate(lengths):
            share = shares[depth, length]
            axis.text(j, i, f"{share:.2f}", ha="center", va="center", color="black" if share > 0.6 else "white")
    axis.set_xticks(range(len(lengths)), [f"{length:,}" for length in lengths])
    axis.set_yticks(range(len(depths)), [f"{depth:.0%}" for depth in depths])
    axis.set_xlabel("length of the text, characters")
    axis.set_ylabel("depth of the statement")
    axis.set_title(title)
    figure.colorbar(drawn, ax=axis, label="exact match")
    return figure


def write(cells: Sequence[Cell], title: str, to: Path) -> Path:
    """haystack.json, haystack.png and haystack.svg in a directory; returns the picture.

    Raises:
      StorageError: the disk refuses.
    """
    with writing(to):
        to.mkdir(parents=True, exist_ok=True)
    write_json(to / "haystack.json", {"title": title, "cells": [dataclasses.asdict(cell) for cell in cells]})
    save(draw(cells, title), to / "haystack")
    return to / "haystack.png"
