"""Answers that a model writes."""

from collections.abc import Iterator, Sequence
from typing import TypeVar

import numpy as np

from gpt_jax.data.examples import Row
from gpt_jax.errors import UserError
from gpt_jax.judge.metrics.exact import is_exact
from gpt_jax.judge.problems import Answered, Problem
from gpt_jax.judge.prompting import Judged, Prompting
from gpt_jax.judge.tasks import WHERE, Asking, Task
from gpt_jax.judge.verifiers import Verifier
from gpt_jax.limits import folded
from gpt_jax.sample.knobs import sampling
from gpt_jax.sample.outputs.stream import StopStrings, TextStream
from gpt_jax.sample.processors import Vocabulary

T = TypeVar("T")
TIMES = 2  # the longest right answer, where no length is asked for


def write(
    judged: Judged, prompting: Prompting, task: Task, problems: Sequence[Problem], shots: Sequence[Sequence[Problem]]
) -> Iterator[Answered | None]:
    """The answers to each problem; before them None for every answer that was written.

    Answer j to problem i depends on the model, the problem and its shots, and on the task's seed alone.
    """
    how, count = task.asking, task.asking.samples
    prompts = prompting.prompts(problems, shots)
    limit = how.max_new_tokens or _limit(prompting, problems)
    texts = [""] * (len(problems) * count)
    for i, text in _written(judged, how, [ids for ids in prompts for _ in range(count)], limit):
        texts[i] = text
        yield None
    pairs = [(problem, text) for problem, of in zip(problems, _in(texts, count), strict=True) for text in of]
    correct = _verified(task.verify, pairs)
    for problem, said, right in zip(problems, _in(texts, count), _in(correct, count), strict=True):
        yield Answered(problem, tuple(said), tuple(right), tuple(map(task.vote, said)))


def _written(judged: Judged, how: Asking, prompts: Sequence[list[int]], limit: int) -> Iterator[tuple[int, str]]:
    """The number of a prompt, and what the model writes after it."""
    tokenizer, stops = judged.tokenizer, StopStrings((how.delimiter,) if how.delimiter else ())
    known = Vocabulary(judged.decoder.config.vocab, tokenizer, tuple(tokenizer.stop_ids))
    drawn = sampling(known, temperature=how.temperature)

    def text_of(i: int, ids: list[int]) -> tuple[str, bool]:
        stream = TextStream(tokenizer, prompts[i], complete=True, stops=stops)
        said = stream.write(ids[:-1] if ids and ids[-1] in known.stop_ids else ids)
        stopped = stream.stopped
        return said + stream.close(), stopped

    rows = judged.decoder.each(
        prompts,
        max_new_tokens=[min(limit, judged.context - len(ids)) for ids in prompts],
        sampling=drawn,
        seeds=np.random.SeedSequence(folded(how.seed)).generate_state(len(prompts)).tolist(),
        rows=judged.rows,
        ended=(lambda i, ids: text_of(i, ids)[1]) if how.delimiter else None,
    )
    yield from ((i, text_of(i, row.tokens)[0]) for i, row in rows)


def _limit(prompting: Prompting, problems: Sequence[Problem]) -> int:
    answers = [answer for problem in problems for answer in problem.answers]
    return TIMES * (1 + max(map(len, prompting.writer.tokenizer.encode_many(answers))))


def _verified(verify: Verifier | None, pairs: Sequence[tuple[Problem, str]]) -> list[float]:
    if verify is None:
        return [is_exact(text, problem.answers) for problem, text in pairs]
    asked: list[tuple[Row, str]] = [(problem.row, text) for problem, text in pairs]
    found = [value for value in verify(asked) if value is not None]
    if len(found) < len(asked):
        raise UserError(
            f"{len(asked) - len(found)} of {len(asked)} answers cannot be judged: their rows lack fields",
            where=WHERE,
            allowed=f"rows as the task's own source has them; the first has {', '.join(map(str, asked[0][0]))}",
        )
    return found


def _in(values: Sequence[T], size: int) -> list[Sequence[T]]:
    return [values[i : i + size] for i in range(0, len(values), size)]
