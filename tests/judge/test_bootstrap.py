"""Intervals of figures over problems."""

import numpy as np
import pytest

from gpt_jax import registry
from gpt_jax.judge import bootstrap
from tests.judge.answers import answered, random_answers

MEAN = lambda total_K: {"mean": total_K[0] / total_K[1]}


def statistics(values):
    return np.stack([values, np.ones(len(values))], axis=1)


def test_an_interval_holds_the_truth_as_often_as_it_says():
    draw, held = np.random.default_rng(0), 0
    for trial in range(200):
        found = bootstrap.intervals(MEAN, statistics(draw.random(60) < 0.3), seed=trial)["mean"]
        held += found.low <= 0.3 <= found.high
    assert 0.88 <= held / 200 <= 0.99


def test_an_interval_is_that_of_resampled_problems():
    """Against the plain way: problems drawn with putting back, and the figure computed anew from their answers."""
    given = random_answers(40)
    measured = registry.build("judge.metrics", "chrf").measure(given)
    found = bootstrap.intervals(measured.figures, measured.statistics_NK)["chrf"]
    draw, again = np.random.default_rng(1), []
    for _ in range(400):
        some = registry.build("judge.metrics", "chrf").measure([given[i] for i in draw.integers(40, size=40)])
        again.append(some.figures(some.statistics_NK.sum(0))["chrf"])
    spread = found.high - found.low
    low, high = np.percentile(again, [2.5, 97.5])
    assert abs(found.low - low) < 0.1 * spread and abs(found.high - high) < 0.1 * spread
    assert found.low < found.value < found.high and found.problems == 40


def test_pairs_are_resampled_alike():
    draw = np.random.default_rng(0)
    hard = draw.random(200)
    one, other = statistics(hard + 0.01), statistics(hard)
    paired = bootstrap.differences(MEAN, one, other)["mean"]
    assert paired.value == pytest.approx(0.01) and paired.high - paired.low < 1e-9
    apart = [bootstrap.intervals(MEAN, values)["mean"] for values in (one, other)]
    assert apart[0].low < apart[1].high  # alone they say nothing


def test_the_same_seed_gives_the_same_interval_however_many_are_drawn_at_once(monkeypatch):
    given = statistics(np.random.default_rng(0).random(30))
    whole = bootstrap.intervals(MEAN, given)
    assert bootstrap.intervals(MEAN, given) == whole != bootstrap.intervals(MEAN, given, seed=1)
    monkeypatch.setattr(bootstrap, "AT_ONCE", 64)
    assert bootstrap.intervals(MEAN, given) == whole


def test_one_problem_has_an_interval_of_a_point():
    measured = registry.build("judge.metrics", "exact").measure([answered("a", "a")])
    found = bootstrap.intervals(measured.figures, measured.statistics_NK)["exact"]
    assert (found.low, found.value, found.high) == (1, 1, 1)


@pytest.mark.parametrize("share", [0.02, 0.5, 0.99])
def test_shares_have_an_interval_that_holds_however_small_they_are(share):
    draw, held = np.random.default_rng(0), 0
    for _ in range(400):
        found = bootstrap.shares({"right": (draw.random(50) < share).astype(float)})["right"]
        held += found.low <= share <= found.high
        assert found.low < found.high
    assert 0.85 <= held / 400 <= 0.99  # resamples hold 2% in two thirds of the cases, and 99% in two fifths


def test_other_values_are_no_shares():
    assert bootstrap.shares({"half": np.array([0.0, 0.5, 1.0])}) == {}
