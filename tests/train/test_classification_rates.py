"""Precision, recall and F1 of each class and of all, from counts of what was said of what is true."""

import numpy as np
import pytest

from gpt_jax.train.objectives.classify import rates


def test_rates_are_counted_like_a_double_loop():
    draw = np.random.default_rng(5)
    for classes in (2, 3, 6):
        truth, said = draw.integers(classes, size=(2, 12))
        said[truth == classes - 1] = 0  # a class that is never said
        said[said == classes - 1] = 0
        confusion = np.zeros((classes, classes), int)
        np.add.at(confusion, (truth, said), 1)
        found = rates(confusion, [str(c) for c in range(classes)])
        table = []
        for c in range(classes):
            right = sum(t == s == c for t, s in zip(truth, said, strict=True))
            predicted, actual = sum(said == c), sum(truth == c)
            precision = right / predicted if predicted else 0.0
            recall = right / actual if actual else 0.0
            f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
            table.append((precision, recall, f1))
            got = [found[f"{name}/{c}"] for name in ("precision", "recall", "f1")]
            np.testing.assert_allclose(got, table[-1])
        macro = [found[f"macro_{name}"] for name in ("precision", "recall", "f1")]
        np.testing.assert_allclose(macro, np.mean(table, 0))
        assert found["micro_f1"] == pytest.approx(np.mean(truth == said))


def test_rates_are_those_of_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    draw = np.random.default_rng(6)
    for classes in (2, 5, 9):
        truth, said = draw.integers(classes, size=(2, 15))
        confusion = np.zeros((classes, classes), int)
        np.add.at(confusion, (truth, said), 1)
        found = rates(confusion, [str(c) for c in range(classes)])
        for average in ("macro", "micro"):
            wanted = metrics.precision_recall_fscore_support(
                truth, said, labels=range(classes), average=average, zero_division=0
            )[:3]
            got = [found[f"{average}_{name}"] for name in ("precision", "recall", "f1")]
            np.testing.assert_allclose(got, wanted)
