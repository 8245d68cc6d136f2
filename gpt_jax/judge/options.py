"""Which of a problem's options is the likeliest, by their log-probabilities."""

from collections.abc import Iterator, Sequence

import numpy as np

from gpt_jax.judge.problems import Answered, Problem
from gpt_jax.judge.prompting import Judged, Prompting
from gpt_jax.sample import likelihood


def choose(
    judged: Judged, prompting: Prompting, problems: Sequence[Problem], shots: Sequence[Sequence[Problem]]
) -> Iterator[Answered | None]:
    """The answer to each problem; before them None for every option that was read."""
    rows = [
        (problem.prompt, before, option)
        for problem, before in zip(problems, shots, strict=True)
        for option in problem.options
    ]
    scores = np.zeros(len(rows))
    for i, score in _log_probs(judged, prompting, rows):
        scores[i] = score
        yield None
    if prompting.how.score == "bytes":
        scores /= [max(len(option.encode()), 1) for _, _, option in rows]
    if prompting.how.score == "unconditional":
        different = sorted({option for _, _, option in rows})
        alone = np.zeros(len(different))
        for i, score in _log_probs(judged, prompting, [("", (), option) for option in different]):
            alone[i] = score
        known = dict(zip(different, alone, strict=True))
        scores -= [known[option] for _, _, option in rows]
    ends = np.cumsum([len(problem.options) for problem in problems])
    yield from (_answered(*pair) for pair in zip(problems, np.split(scores, ends[:-1]), strict=True))


def _log_probs(judged: Judged, prompting: Prompting, rows: Sequence[tuple]) -> Iterator[tuple[int, float]]:
    """The number of a row (prompt, shots, option), and log p(option | what stands before it)."""
    encoded = prompting.answered(*zip(*rows, strict=True))
    for i, found in likelihood.each(judged.decoder, [ids for ids, _ in encoded]):
        count = encoded[i][1]
        yield i, float(np.sum(found.logprobs[len(found.logprobs) - count :]))


def _answered(problem: Problem, scores: np.ndarray) -> Answered:
    """The first of the likeliest options; probabilities are the scores', over the options."""
    shares = np.exp(scores - scores.max())
    chosen = problem.options[int(np.argmax(scores))]
    correct = (float(chosen in problem.answers),)
    return Answered(problem, (chosen,), correct, (chosen,), tuple((shares / shares.sum()).tolist()))
