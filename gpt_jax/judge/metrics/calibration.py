"""Expected calibration error: how far the probability of a chosen option is from how often it is right (Guo et al. 2017)."""

from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np

from gpt_jax.errors import UserError
from gpt_jax.judge.metrics import WHERE, Measured, Metric
from gpt_jax.judge.problems import Answered
from gpt_jax.limits import Limits
from gpt_jax.registry import register


@register("judge.metrics", "calibration", examples=("calibration(bins=5)",))
def calibration(*, bins: Annotated[int, Limits(1, 1000)] = 10) -> Metric:
    """The mean over problems of |confidence - accuracy| in the bin of equal width of the chosen option's probability.

    Raises:
      UserError: answers were written, so that nothing has a probability.
    """

    def measure(answered: Sequence[Answered]) -> Measured:
        if not all(answer.probabilities for answer in answered):
            raise UserError(
                "calibration is of probabilities of options", where=WHERE, allowed="a task that is scored by options"
            )
        confidence_N = np.array([max(answer.probabilities) for answer in answered])
        correct_N = np.array([answer.correct[0] for answer in answered])
        return Measured(binned(confidence_N, correct_N, bins).reshape(len(answered), -1), figures, details)

    def figures(total_K: np.ndarray) -> dict[str, float]:
        return {"calibration_error": error(total_K.reshape(bins, 3))}

    def details(total_K: np.ndarray) -> dict[str, Any]:
        names = ("problems", "confidence", "correct")
        return {"calibration": [dict(zip(names, row, strict=True)) for row in total_K.reshape(bins, 3).tolist()]}

    return Metric(measure, lowest=("calibration_error",))


def binned(confidence_N: np.ndarray, correct_N: np.ndarray, bins: int) -> np.ndarray:
    """(1, confidence, whether it is right) in the bin of each problem, 0 in the others, [N, bins, 3]. Bin b holds what is
    above b / bins, up to (b + 1) / bins."""
    bin_N = np.clip(np.ceil(confidence_N * bins).astype(int) - 1, 0, bins - 1)
    found_NB3 = np.zeros((len(confidence_N), bins, 3))
    rows = np.stack([np.ones(len(confidence_N)), confidence_N, correct_N], axis=1)
    found_NB3[np.arange(len(confidence_N)), bin_N] = rows
    return found_NB3


def error(total_B3: np.ndarray) -> float:
    """From the sums of ``binned`` over problems."""
    return float(np.abs(total_B3[:, 1] - total_B3[:, 2]).sum() / max(total_B3[:, 0].sum(), 1))
