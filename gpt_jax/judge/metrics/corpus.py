"""BLEU and chrF by sacrebleu: scores of a whole corpus, from counts of n-grams that add up over its texts."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from gpt_jax.judge.metrics import Measured, Metric, package
from gpt_jax.judge.problems import Answered


def sacrebleu(name: str, kind: str, **arguments: Any) -> Metric:
    """A metric of sacrebleu, with its signature among the details.

    Args:
      name: of the figure, from 0 to 100.
      kind: of its classes.

    Raises:
      UserError: sacrebleu is not installed.
    """
    scorer = getattr(package("sacrebleu", "sacrebleu.metrics", name), kind)(**arguments)

    def measure(answered: Sequence[Answered]) -> Measured:
        most = max(len(answer.problem.answers) for answer in answered)
        # Where texts have different numbers of references, the last ones of some are missing.
        references = [
            [(*answer.problem.answers, *[None] * most)[place] for answer in answered] for place in range(most)
        ]
        counts = scorer._extract_corpus_statistics([answer.texts[0] for answer in answered], references)
        return Measured(np.array(counts, float), figures, details)

    def figures(total_K: np.ndarray) -> dict[str, float]:
        return {name: float(scorer._aggregate_and_compute([total_K.astype(int).tolist()]).score)}

    def details(total_K: np.ndarray) -> dict[str, Any]:
        return {f"{name} signature": scorer.get_signature().format()}

    return Metric(measure)
