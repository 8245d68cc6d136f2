"""Answers that are kept beside a run, so that what was asked once is not asked again."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from gpt_jax.config import Config
from gpt_jax.data import cache
from gpt_jax.data.tokenizers import Tokenizer
from gpt_jax.judge.evaluate import Answers
from gpt_jax.judge.opened import Opened
from gpt_jax.judge.problems import Answered
from gpt_jax.storage import make_folder, read_json, write_json

FORMAT = 1  # raise it when a model's answers to the same problems change
FIELDS = {"numbers": list[int], "texts": list[list], "correct": list[list], "votes": list[list], "probabilities": list}


def digest_of(config: Config, params: Mapping[str, Any], tokenizer: Tokenizer | None) -> str:
    """Of all that a model's answers depend on."""
    leaves = jax.tree.leaves(jax.device_get(params))
    parts = [np.ascontiguousarray(leaf).tobytes() for leaf in leaves]
    spelt = "" if tokenizer is None else tokenizer.fingerprint
    return cache.digest("model", FORMAT, str(config.model), config.data.template, spelt, *parts)


def path_of(folder: Path, opened: Opened, model: str) -> Path:
    return folder / "answers" / f"{opened.name}-{cache.digest(opened.digest, model)[:16]}.json"


def read(path: Path, opened: Opened) -> Answers | None:
    """The answers of a file; None where there is none.

    Raises:
      StorageError: it is damaged.
    """
    values = read_json(path, missing={}, fields=FIELDS)
    if not all(name in values for name in FIELDS):
        return None
    problems = [opened.problems[i] for i in values["numbers"]]
    columns = [[tuple(row) for row in values[name]] for name in ("texts", "correct", "votes", "probabilities")]
    return Answers(tuple(values["numbers"]), tuple(Answered(*row) for row in zip(problems, *columns, strict=True)))


def write(path: Path, given: Answers) -> None:
    """Beside what ``read`` needs, the file has the problems, for people and other programmes."""
    values: dict[str, Any] = {
        "numbers": given.numbers,
        "prompts": [one.problem.prompt for one in given.answered],
        "answers": [one.problem.answers for one in given.answered],
        "options": [one.problem.options for one in given.answered],
        **{
            name: [getattr(one, name) for one in given.answered]
            for name in ("texts", "correct", "votes", "probabilities")
        },
    }
    make_folder(path.parent)
    write_json(path, values)
