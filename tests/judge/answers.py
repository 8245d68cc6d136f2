"""Answers that were drawn, for metrics; and a small model that answers at random."""

import functools
import json
import random
from pathlib import Path

import jax

from gpt_jax.config import Config
from gpt_jax.data.rendering import template_of, with_tokens
from gpt_jax.data.tokenizers.bytes import Bytes
from gpt_jax.judge.metrics.exact import is_exact
from gpt_jax.judge.opened import Opened, open_tasks
from gpt_jax.judge.problems import Answered, Problem
from gpt_jax.judge.prompting import Judged
from gpt_jax.sample.decode import Decoder
from tests.model.variants import parameters
from tests.train import tiny

WORDS = ("the", "A", "cat", "dog.", "sat", "on", "an", "old", "mat", "ran!", "The", "12", "two", "it's")


def text(draw: random.Random, least: int = 0, most: int = 9) -> str:
    return " ".join(draw.choices(WORDS, k=draw.randint(least, most)))


def answered(texts: str | tuple[str, ...], *answers: str, correct=None, **problem) -> Answered:
    texts = (texts,) if isinstance(texts, str) else texts
    right = tuple(is_exact(said, answers) for said in texts) if correct is None else correct
    return Answered(Problem({}, "?", answers, **problem), texts, right, tuple(map(str.strip, texts)))


def random_answers(count: int, seed: int = 0, references: int = 1) -> list[Answered]:
    """Some of them right, some empty."""
    draw = random.Random(seed)
    found = []
    for _ in range(count):
        answers = [text(draw, 1) for _ in range(references)]
        found.append(answered(draw.choice([text(draw), answers[0], f"{answers[0]} {text(draw)}"]), *answers))
    return found


def config(**changes) -> Config:
    return tiny.config(**{"model__vocab": 320, "model__context": 256, **changes})


def opened(call: str, c: Config | None = None) -> Opened:
    """A task with its problems; contexts are of 1024 tokens where no config is given."""
    (found,) = open_tasks([call], c or config(model__context=1024))
    return found


def written(folder: Path, rows) -> str:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def judged(c: Config, scale: float = 1.0) -> Judged:
    """A model with random parameters that reads bytes; another ``scale`` is another model."""
    return _judged(c.to_json(), scale)


@functools.cache
def _judged(settings: str, scale: float) -> Judged:
    c = Config.from_json(settings)
    tokenizer = with_tokens(Bytes(), template_of(c))
    params = jax.tree.map(lambda leaf: scale * leaf, parameters(c.model))
    return Judged.of(c, Decoder(c.model, params), tokenizer)
