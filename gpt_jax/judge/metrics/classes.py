"""Precision, recall and F1 of each class, their means, and the confusion matrix."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from gpt_jax.errors import UserError
from gpt_jax.judge.metrics import WHERE, Measured, Metric
from gpt_jax.judge.problems import Answered
from gpt_jax.registry import register

PARTS = ("precision", "recall", "f1")


@register("judge.metrics", "classes")
def classes() -> Metric:
    """Of problems that all have the same options, which are the classes.

    The macro mean is over all classes, also those that never occur; a share of nothing is 0. The micro mean is over
    problems: where each has one class, its precision, recall and F1 are the accuracy.

    Raises:
      UserError: options differ.
    """
    return Metric(_measure)


def _measure(answered: Sequence[Answered]) -> Measured:
    names = _options(answered)

    def figures(total_K: np.ndarray) -> dict[str, float]:
        confusion_CC = total_K.reshape(len(names), len(names))
        by_class = dict(zip(PARTS, scores(confusion_CC), strict=True))
        found = {f"{part}_macro": float(np.mean(values_C)) for part, values_C in by_class.items()}
        found["f1_micro"] = micro_f1(confusion_CC)
        for number, name in enumerate(names):
            found |= {f"{part}/{name}": float(values_C[number]) for part, values_C in by_class.items()}
        return found

    def details(total_K: np.ndarray) -> dict[str, Any]:
        return {"classes": list(names), "confusion": total_K.reshape(len(names), -1).astype(int).tolist()}

    of_each = [confusion([answer.problem.right], [names.index(answer.texts[0])], len(names)) for answer in answered]
    return Measured(np.stack(of_each).reshape(len(answered), -1).astype(float), figures, details)


def confusion(right: Sequence[int], chosen: Sequence[int], count: int) -> np.ndarray:
    """How often a class was right (rows) and another one chosen (columns), int [C, C]."""
    found_CC = np.zeros((count, count), int)
    np.add.at(found_CC, (np.asarray(right, int), np.asarray(chosen, int)), 1)
    return found_CC


def scores(confusion_CC: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Precision, recall and F1 of each class, float [C] each; a share of nothing is 0."""
    hits_C, right_C, chosen_C = np.diag(confusion_CC), confusion_CC.sum(1), confusion_CC.sum(0)
    return _share(hits_C, chosen_C), _share(hits_C, right_C), _share(2 * hits_C, right_C + chosen_C)


def micro_f1(confusion_CC: np.ndarray) -> float:
    """Of all problems together."""
    return float(_share(np.trace(confusion_CC), confusion_CC.sum()))


def _share(part: Any, whole: Any) -> np.ndarray:
    return np.where(np.asarray(whole) > 0, np.asarray(part) / np.maximum(whole, 1), 0.0)


def _options(answered: Sequence[Answered]) -> tuple[str, ...]:
    found = {answer.problem.options for answer in answered}
    if len(found) != 1 or () in found:
        raise UserError(
            "precision and recall are of classes, and the problems have different options, or none",
            where=WHERE,
            allowed="problems with the same options, such as which_package",
        )
    return found.pop()
