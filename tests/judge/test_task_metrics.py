"""Every metric equals the library, or the definition, that it is known by."""

import itertools
import math
import random
import re
import string
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
import sacrebleu
from rouge_score import rouge_scorer
from sklearn import metrics as sklearn

from gpt_jax import registry
from gpt_jax.errors import UserError
from gpt_jax.judge import metrics
from gpt_jax.judge.metrics import calibration, classes, majority_at, pass_at, squad
from gpt_jax.judge.problems import Answered, Problem
from tests.judge.answers import WORDS, answered, random_answers, text


def figures(call: str, given: list[Answered]) -> dict[str, float]:
    measured = registry.build("judge.metrics", call).measure(given)
    return measured.figures(measured.statistics_NK.sum(0))


def details(call: str, given: list[Answered]) -> dict:
    measured = registry.build("judge.metrics", call).measure(given)
    return measured.details(measured.statistics_NK.sum(0))


def chosen(count: int, names: tuple[str, ...], seed: int, never: int = -1) -> tuple[list[Answered], list, list]:
    """Answers by options, and what was right and chosen; one class never occurs."""
    draw = random.Random(seed)
    right = [draw.choice([n for n in range(len(names)) if n != never]) for _ in range(count)]
    said = [n if draw.random() < 0.4 else draw.choice([c for c in range(len(names)) if c != never]) for n in right]
    found = []
    for r, c in zip(right, said, strict=True):
        weights = np.random.default_rng(len(found)).random(len(names))
        weights[c] = weights.max() + 0.2
        problem = Problem({}, "?", (names[r],), names)
        shares = tuple((weights / weights.sum()).tolist())
        found.append(Answered(problem, (names[c],), (float(r == c),), (names[c],), shares))
    return found, right, said


# From the definition of SQuAD (Rajpurkar et al. 2016, section 5; its script evaluate-v1.1).
def of_the_script(said: str, wanted: str) -> tuple[float, float]:
    def normal(given: str) -> str:
        given = "".join(letter for letter in given.lower() if letter not in set(string.punctuation))
        return " ".join(re.sub(r"\b(a|an|the)\b", " ", given).split())

    one, other = normal(said).split(), normal(wanted).split()
    same = sum((Counter(one) & Counter(other)).values())
    if len(one) == 0 or len(other) == 0:
        return float(normal(said) == normal(wanted)), float(one == other)
    if same == 0:
        return float(normal(said) == normal(wanted)), 0.0
    precision, recall = same / len(one), same / len(other)
    return float(normal(said) == normal(wanted)), 2 * precision * recall / (precision + recall)


@pytest.mark.parametrize("references", [1, 3])
def test_squad_is_that_of_its_script(references):
    given = random_answers(300, references=references)
    best = [
        [max(of_the_script(one.texts[0], wanted)[part] for wanted in one.problem.answers) for one in given]
        for part in (0, 1)
    ]
    found = figures("squad", given)
    assert found == pytest.approx({"squad_exact": np.mean(best[0]), "squad_f1": np.mean(best[1])}, abs=1e-12)
    assert 0.2 < found["squad_exact"] < found["squad_f1"] < 0.9
    assert squad.exact_match("The  CAT.", "cat") == squad.f1("a", "the") == squad.f1("", "") == 1
    assert squad.f1("", "cat") == 0


@pytest.mark.parametrize("seed", range(5))
def test_classes_are_those_of_scikit_learn(seed):
    names = ("json", "http", "xml", "email")
    given, right, said = chosen(60, names, seed, never=2)
    found, every = figures("classes", given), range(len(names))
    for average in ("macro", "micro"):
        wanted = sklearn.precision_recall_fscore_support(right, said, labels=every, average=average, zero_division=0)
        for part, value in zip(("precision", "recall", "f1"), wanted[:3], strict=True):
            if f"{part}_{average}" in found:
                assert found[f"{part}_{average}"] == pytest.approx(value, abs=1e-12)
    assert found["f1_micro"] == pytest.approx(figures("accuracy", given)["accuracy"])
    by_class = sklearn.precision_recall_fscore_support(right, said, labels=every, zero_division=0)
    for part, values in zip(("precision", "recall", "f1"), by_class[:3], strict=True):
        assert [found[f"{part}/{name}"] for name in names] == pytest.approx(values.tolist(), abs=1e-12)
    confusion = sklearn.confusion_matrix(right, said, labels=every).tolist()
    assert details("classes", given) == {"classes": list(names), "confusion": confusion}
    assert classes.confusion(right, said, 4).tolist() == confusion
    assert figures("accuracy", given)["accuracy"] == pytest.approx(sklearn.accuracy_score(right, said))


def test_classes_of_different_options_are_refused():
    one, other = (chosen(2, names, 0)[0] for names in (("a", "b"), ("a", "c")))
    with pytest.raises(UserError, match="different options"):
        figures("classes", one + other)


@pytest.mark.parametrize("bins", [1, 5, 10])
def test_calibration_is_its_definition(bins):
    given, _, _ = chosen(200, ("a", "b", "c"), 1)
    total = 0.0
    for b in range(bins):
        inside = [one for one in given if b / bins < max(one.probabilities) <= (b + 1) / bins]
        if inside:
            confidence = np.mean([max(one.probabilities) for one in inside])
            total += len(inside) / len(given) * abs(confidence - np.mean([one.correct[0] for one in inside]))
    assert figures(f"calibration(bins={bins})", given)["calibration_error"] == pytest.approx(total, abs=1e-12)
    assert sum(row["problems"] for row in details(f"calibration(bins={bins})", given)["calibration"]) == 200


def test_calibration_at_the_borders():
    shares = calibration.binned(np.array([0.0, 0.1, 1.0]), np.array([0.0, 1.0, 1.0]), 10)
    assert shares[:, :, 0].argmax(1).tolist() == [0, 0, 9]
    with pytest.raises(UserError, match="probabilities of options"):
        figures("calibration", [answered("a", "a")])


@pytest.mark.parametrize("references", [1, 2])
@pytest.mark.parametrize(
    "call, name, scorer",
    [
        ("bleu", "bleu", sacrebleu.BLEU()),
        ("bleu(lowercase=True)", "bleu", sacrebleu.BLEU(lowercase=True)),
        ("chrf", "chrf", sacrebleu.CHRF()),
        ("chrf(word_order=2)", "chrf++", sacrebleu.CHRF(word_order=2)),
    ],
)
def test_corpus_scores_are_those_of_sacrebleu(call, name, scorer, references):
    given = random_answers(80, references=references)
    by_place = [[one.problem.answers[place] for one in given] for place in range(references)]
    wanted = scorer.corpus_score([one.texts[0] for one in given], by_place).score
    assert figures(call, given) == {name: pytest.approx(wanted, abs=1e-9)}
    assert 5 < wanted < 95
    assert details(call, given) == {f"{name} signature": scorer.get_signature().format()}
    assert "version:" in scorer.get_signature().format()


def test_corpus_scores_of_problems_with_different_numbers_of_references():
    given = [answered("the cat sat", "the cat sat", "a cat"), answered("a dog", "the dog")]
    assert 0 < figures("chrf", given)["chrf"] < 100


@pytest.mark.parametrize("stemmer", [False, True])
def test_rouge_is_that_of_rouge_score(stemmer):
    given = [*random_answers(60), answered("the cat\nran", "a cat\nran on")]
    scorer = rouge_scorer.RougeScorer(["rouge1", "rouge2", "rougeL", "rougeLsum"], use_stemmer=stemmer)
    scores = [scorer.score(one.problem.answers[0], one.texts[0]) for one in given]
    wanted = {kind: np.mean([score[kind].fmeasure for score in scores]) for kind in scores[0]}
    assert figures(f"rouge(stemmer={stemmer})", given) == pytest.approx(wanted, abs=1e-12)


def test_rouge_is_the_best_over_references():
    found = figures("rouge", [answered("the cat sat", "a dog", "the cat sat")])
    assert found["rougeL"] == 1


@pytest.mark.parametrize("n, c", [(n, c) for n in range(1, 7) for c in range(n + 1)])
def test_pass_at_k_is_that_of_every_subset(n, c):
    correct = (1.0,) * c + (0.0,) * (n - c)
    for k in range(1, n + 1):
        subsets = list(itertools.combinations(correct, k))
        wanted = sum(max(subset) for subset in subsets) / len(subsets)
        assert pass_at.of_samples(correct, k) == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize("seed", range(12))
def test_majority_at_k_is_that_of_every_subset(seed):
    draw = random.Random(seed)
    texts = tuple(draw.choices("abcd", k=7))
    right = set(draw.sample("abcd", k=draw.randint(0, 2)))
    one = answered(texts, *right, correct=tuple(float(said in right) for said in texts))
    for k in range(1, 8):
        shares = []
        for subset in itertools.combinations(texts, k):
            counts = Counter(subset)
            winners = [said for said, count in counts.items() if count == max(counts.values())]
            shares.append(Fraction(sum(said in right for said in winners), len(winners)))
        wanted = float(sum(shares) / len(shares))
        assert figures(f"majority_at(k={k})", [one])[f"maj@{k}"] == pytest.approx(wanted, abs=1e-12)


def test_majorities_of_many_samples_are_quick_and_add_up():
    votes = Counter({str(n): n + 1 for n in range(20)})  # 210 answers
    total = sum(majority_at.wins(votes, said, 64) for said in votes)
    assert total == 1


def test_pass_at_of_many_samples_does_not_overflow():
    assert pass_at.of_samples((1.0,) + (0.0,) * 9999, 5000) == pytest.approx(0.5)
    assert math.isclose(pass_at.of_samples((0.0,) * 10, 3), 0)


def test_exact_and_correct():
    given = [answered(" cat\n", "cat"), answered("Cat", "cat"), answered(("b", "c"), "b", "d")]
    assert figures("exact", given)["exact"] == pytest.approx(2 / 3)
    assert figures("correct", given)["correct"] == pytest.approx((1 + 0 + 0.5) / 3)


def test_every_metric_is_finite_on_empty_answers():
    empty = [answered("", "cat"), answered("", "dog ran")]
    for name in registry.names("judge.metrics"):
        if name in ("classes", "calibration"):
            continue
        for call in registry.examples("judge.metrics", name):
            several = [Answered(one.problem, ("", ""), (0.0, 0.0), ("", "")) for one in empty]
            assert all(value == 0 for value in figures(call, several).values()), call


def test_a_package_that_is_not_installed_is_named():
    with pytest.raises(UserError, match="which is not installed") as refusal:
        metrics.package("no-such-package", "no_such_package", "bleu")
    assert "requirements/eval.txt" in refusal.value.fix


def test_words_of_answers_vary():
    draw = random.Random(3)
    assert len({text(draw) for _ in range(50)}) > 40 and len(WORDS) == len(set(WORDS))
