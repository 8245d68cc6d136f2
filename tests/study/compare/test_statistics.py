"""Verdicts on simulated experiments whose truth is known: how often they err, what they find, what intervals cover."""

import math

import numpy as np
import pytest

from gpt_jax.errors import UserError
from gpt_jax.study.compare import power, statistics

EXPERIMENTS = 600


def simulated(arms: int, seeds: int, effect: float, rng, noise=0.01, shared=0.05):
    """Runs whose seeds have a luck in common, beside a noise of their own; ``effect`` on every arm but the baseline."""
    luck = shared * rng.standard_normal(seeds)
    values = 3 + luck + noise * rng.standard_normal((arms + 1, seeds))
    values[1:] += effect
    names = ["baseline", *(f"arm {i}" for i in range(arms))]
    return {name: dict(enumerate(row)) for name, row in zip(names, values.tolist(), strict=True)}


@pytest.mark.every(3)
@pytest.mark.parametrize(("arms", "seeds"), [(1, 3), (1, 7), (4, 5)])
def test_arms_like_the_baseline_are_called_different_at_the_nominal_rate(arms, seeds):
    rng = np.random.default_rng(0)
    tables = [statistics.compare(simulated(arms, seeds, 0.0, rng), "baseline") for _ in range(EXPERIMENTS)]
    wrong = np.mean([any(row.verdict in ("better", "worse") for row in table) for table in tables])
    assert wrong == pytest.approx(0.05, abs=0.02)


@pytest.mark.every(3)
@pytest.mark.parametrize("seeds", [3, 5, 7])
def test_the_detectable_difference_is_found_as_often_as_stated(seeds):
    rng, noise = np.random.default_rng(1), 0.01
    deviation = noise * math.sqrt(2)
    effect = power.detectable(seeds, deviation, 0.05)
    for sign, verdict in ((-1, "better"), (1, "worse")):
        rows = [statistics.compare(simulated(1, seeds, sign * effect, rng), "baseline")[0] for _ in range(EXPERIMENTS)]
        assert np.mean([row.verdict == verdict for row in rows]) == pytest.approx(0.8, abs=0.05)


@pytest.mark.parametrize("seeds", [2, 3, 5, 20])
def test_intervals_cover_the_truth_as_often_as_stated(seeds):
    rng, truth = np.random.default_rng(2), 0.02
    tables = [list(simulated(1, seeds, truth, rng).values()) for _ in range(EXPERIMENTS)]
    differences = [[arm[seed] - baseline[seed] for seed in baseline] for baseline, arm in tables]
    assert np.mean([truth in statistics.t_interval(row, 0.95) for row in differences]) == pytest.approx(0.95, abs=0.02)


def test_a_bootstrap_is_given_where_it_covers():
    rng, truth = np.random.default_rng(3), 0.02
    rows = [statistics.compare(simulated(1, 20, truth, rng), "baseline")[0] for _ in range(400)]
    assert np.mean([truth in row.bootstrap for row in rows]) == pytest.approx(0.93, abs=0.03)
    assert statistics.compare(simulated(1, 11, truth, rng), "baseline")[0].bootstrap is None


def test_pairing_takes_out_what_seeds_have_in_common():
    table = simulated(1, 5, 0.0, np.random.default_rng(4), noise=1e-4, shared=1.0)
    assert statistics.compare(table, "baseline")[0].deviation < 1e-3


def test_looking_early_errs_no_more_often():
    rng, looks, alpha = np.random.default_rng(5), [3, 5, 8, 12], 0.05
    shares = power.spending(looks, alpha)
    assert sum(shares) == pytest.approx(alpha) and shares == sorted(shares)
    naive = spent = 0
    for differences in rng.standard_normal((2 * EXPERIMENTS, looks[-1])):
        p = [statistics.p_paired(differences[:n]) for n in looks]
        naive += min(p) < alpha
        spent += any(value < share for value, share in zip(p, shares, strict=True))
    assert naive / (2 * EXPERIMENTS) > 0.08
    assert 0.02 < spent / (2 * EXPERIMENTS) < 0.06


def test_the_seeds_needed_find_the_difference_and_fewer_do_not():
    for effect in (0.3, 1.0, 3.0):
        needed = power.seeds_needed(effect, 1.0, 0.05)
        assert power.power(needed, effect, 0.05) >= 0.8 > power.power(needed - 1, effect, 0.05)
    assert power.seeds_needed(1e-6, 1.0, 0.05) is None


def test_small_differences_are_equivalent_where_a_margin_says_so():
    table = {"baseline": {0: 3.0, 1: 3.1, 2: 3.2}, "arm": {0: 3.0010, 1: 3.1011, 2: 3.2009}}
    assert statistics.compare(table, "baseline")[0].verdict == "worse"
    row = statistics.compare(table, "baseline", margin=0.01)[0]
    assert row.verdict == "equivalent" and "within 0.01" in row.words
    assert statistics.compare(table, "baseline", margin=0.0005)[0].verdict == "worse"
    assert statistics.compare(table, "baseline", lower_is_better=False)[0].verdict == "better"


def test_what_says_nothing_is_inconclusive():
    one = statistics.compare({"baseline": {0: 3.0}, "arm": {0: 2.0}}, "baseline")[0]
    assert one.verdict == "inconclusive" and one.interval is None and "one seed" in one.words
    same = statistics.compare({"baseline": {0: 3.0, 1: 3.1}, "arm": {0: 3.0, 1: 3.1}}, "baseline")[0]
    assert same.verdict == "equivalent" and "identical" in same.words


def test_two_equal_differences_say_nothing():
    """Of a metric in steps, such as a share of 200 answers, two seeds often differ alike by chance."""
    table = {"baseline": {0: 0.500, 1: 0.505}, "arm": {0: 0.515, 1: 0.520}}
    row = statistics.compare(table, "baseline")[0]
    assert row.verdict == "inconclusive" and row.p == row.p_sign == 0.5
    assert statistics.p_paired([0.015] * 3) == 0.0


def test_arms_at_the_margin_are_called_equivalent_as_rarely_as_stated():
    rng, arms, wrong = np.random.default_rng(9), 5, 0
    for _ in range(300):
        table = {str(arm): dict(enumerate(rng.normal(1.0, 1.0, 8))) for arm in range(arms)}
        rows = statistics.compare({"baseline": dict.fromkeys(range(8), 0.0)} | table, "baseline", margin=1.0)
        wrong += any(row.verdict == "equivalent" for row in rows)
    assert wrong / 300 < 0.08


def test_arms_without_a_finite_value_are_left_out():
    table = {"base": {0: 1.0, 1: math.nan}, "one": {0: 2.0}, "other": {1: 2.0}, "none": {0: math.nan}}
    assert list(statistics.comparable(table, "base")) == ["base", "one"]
    assert statistics.comparable(table | {"base": {0: math.inf}}, "base") == {}


def test_runs_without_a_value_are_named():
    table = {"baseline": {0: 3.0, 1: 3.1, 2: 3.2, 4: 3.0}, "arm": {0: 2.9, 1: math.nan, 2: 3.0, 3: 3.0}}
    row = statistics.compare(table, "baseline")[0]
    assert row.seeds == (0, 2) and row.excluded == (1, 3, 4)
    with pytest.raises(UserError, match="no seed in common"):
        statistics.compare({"baseline": {0: 3.0}, "arm": {1: 3.0}}, "baseline")
    with pytest.raises(UserError, match="no arm 'base'"):
        statistics.compare(table, "base")


def test_holm_is_its_definition():
    p = [0.01, 0.04, 0.03, 0.005]
    # Sorted: 0.005 x 4, 0.01 x 3, 0.03 x 2, then no smaller than the one before.
    assert statistics.holm(p) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert statistics.holm([0.9, 0.8]) == [1.0, 1.0]
