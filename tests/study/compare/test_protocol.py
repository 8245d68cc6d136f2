"""The rule of verdicts, its scales and controls, and what a claim has to state."""

import dataclasses
import math

import numpy as np
import pytest
import scipy

from gpt_jax.errors import UserError
from gpt_jax.study.compare import claims, protocol, ranges
from gpt_jax.study.compare.claims import check_claim, check_estimate, judged
from gpt_jax.study.compare.ranges import Range
from gpt_jax.study.compare.statistics import Interval, holm

STATED = dict(source="Somebody 2020, table 1", reason="any gain", expected=0.2)
CONTROLS = dict(must_fail={"untrained": [0.0, -0.01, 0.01]}, must_pass={"known": [0.5, 0.51, 0.52]})


def test_one_claim_is_judged_by_its_own_interval():
    random = np.random.default_rng(0)
    for _ in range(200):
        values, bounds = random.normal(0.5, 1.0, 4), np.sort(random.normal(0, 1.5, 2))
        (found,) = judged([check_claim("c", "p", values, least=bounds[0], most=bounds[1])])
        inside = bounds[0] < found.low and found.high < bounds[1]
        outside = found.high < bounds[0] or bounds[1] < found.low
        assert found.verdict == ("pass" if inside else "fail" if outside else "inconclusive")


@pytest.mark.slow
def test_several_claims_share_the_error_rate():
    """Of five true claims at their limit, one or more is judged in at most 5% of experiments."""
    random = np.random.default_rng(1)
    wrong = 0
    for _ in range(1000):
        found = judged(check_claim(f"c{i}", "p", random.standard_normal(5), most=0.0) for i in range(5))
        wrong += any(claim.verdict != "inconclusive" for claim in found)
    assert wrong / 1000 < 0.065


def test_p_is_that_of_the_nearest_end_and_is_adjusted():
    values = [[1.0, 1.2, 1.1], [0.3, 0.2, 0.25], [5.0, 5.1, 5.3]]
    found = judged(check_claim("c", "p", row, least=0.0, most=2.0) for row in values)
    ends = [0.0 if np.mean(row) < 1 else 2.0 for row in values]
    wanted = [scipy.stats.ttest_1samp(row, end).pvalue for row, end in zip(values, ends, strict=True)]
    assert [claim.p for claim in found] == pytest.approx(wanted)
    assert [claim.p_holm for claim in found] == pytest.approx(holm(wanted))


@pytest.mark.parametrize("scale, values", [("log", [0.01, 0.2, 3.0]), ("logit", [0.99, 0.999, 0.9])])
def test_intervals_hold_no_impossible_value(scale, values):
    plain, found = check_claim("c", "p", values, least=0.5), check_claim("c", "p", values, least=0.5, scale=scale)
    assert plain.low < 0 or plain.high > 1
    assert 0 < found.low < found.mean < found.high and (scale == "log" or found.high < 1)
    there = np.log(values) if scale == "log" else scipy.special.logit(values)
    low, high = scipy.stats.t.interval(0.95, 2, np.mean(there), scipy.stats.sem(there))
    back = np.exp if scale == "log" else scipy.special.expit
    assert (found.low, found.high) == pytest.approx((back(low), back(high)))


@pytest.mark.parametrize("scale, values", [("log", [0.0, 1.0]), ("logit", [1.0, 0.5]), ("logit", [1.5, 0.5])])
def test_values_without_a_place_on_the_scale_are_refused(scale, values):
    with pytest.raises(UserError, match="has no place on its scale"):
        check_claim("c", "p", values, least=0.5, scale=scale)
    with pytest.raises(UserError, match="no scale 'logg'"):
        check_claim("c", "p", values, least=0.5, scale="logg")


def test_a_range_that_ends_where_the_scale_does_is_open():
    found = check_claim("c", "p", [0.6, 0.7, 0.65], least=0.5, most=1.0, scale="logit")
    assert found.range.ends == [0.0] and found.verdict == "pass"


def test_controls_decide_whether_there_is_a_verdict():
    values = [0.2, 0.21, 0.19]
    good = check_claim("c", "p", values, least=0.1, **CONTROLS)
    assert good.verdict == "pass" and not good.faulty
    assert {one.name: one.verdict for one in good.controls} == {"untrained": "fail", "known": "pass"}
    for name, bad in {"must_fail": {"untrained": values}, "must_pass": {"known": [0.0, 0.01, 0.0]}}.items():
        found = check_claim("c", "p", values, least=0.1, **{**CONTROLS, name: bad})
        assert found.verdict == "inconclusive" and len(found.faulty) == 1
        assert judged([found])[0].verdict == "inconclusive"
        assert "its control" in claims.describe(claims.ClaimResults((found,)))


def test_power_is_that_of_the_stated_value():
    values = [0.2, 0.3, 0.1, 0.2]
    weak, strong = (check_claim("c", "p", values, least=0.0, expected=size).power for size in (0.05, 0.5))
    assert weak < 0.3 and strong > 0.99
    assert check_claim("c", "p", values, least=0.0).power is None
    random, hits = np.random.default_rng(2), 0
    expected, deviation = 0.15, float(np.std(values, ddof=1))
    for _ in range(1000):
        draw = random.normal(expected, deviation, 4)
        hits += check_claim("c", "p", draw, least=0.0).verdict == "pass"
    assert hits / 1000 == pytest.approx(check_claim("c", "p", values, least=0.0, expected=expected).power, abs=0.05)


@pytest.mark.parametrize("expected, count", [(0.0, 1), (0.0, 3), (0.8, 1), (2.0, 3)])
def test_power_at_a_range_with_two_ends_is_how_often_there_is_a_verdict(expected, count):
    """Inside both ends have to be rejected, in all claims that are judged together the first at 5% / count."""
    values, random, settled = np.array([-1.2, 0.3, 0.9, -0.4, 0.4]) / 0.8, np.random.default_rng(3), 0
    made = check_claim("c", "p", values, least=-1.0, most=1.0, expected=expected)
    found = judged([made] * count)[0]
    for _ in range(1000):
        draw = random.normal(expected, float(np.std(values, ddof=1)), 5)
        settled += check_claim("c", "p", draw, least=-1.0, most=1.0).p < 0.05 / count
    assert settled / 1000 == pytest.approx(found.power, abs=0.04)


def test_seeds_that_would_settle_a_claim():
    found = check_claim("c", "p", [0.1, 0.3, -0.1, 0.2], least=0.0)
    assert found.verdict == "inconclusive"
    needed = claims.seeds_needed(found, 1)
    assert 8 < needed < 25 and claims.seeds_needed(found, 5) > needed
    assert claims.seeds_needed(check_claim("c", "p", [1.0], least=0.0), 1) is None
    middle = check_claim("c", "p", [-1.2, 0.3, 0.9, -0.4, 0.4], least=-1.0, most=1.0)
    seeds, deviation = claims.seeds_needed(middle, 1), float(np.std(middle.values, ddof=1))
    drawn = np.random.default_rng(4).normal(0, deviation, (1000, seeds))
    many, few = (
        [check_claim("c", "p", row[:n], least=-1.0, most=1.0).verdict == "pass" for row in drawn]
        for n in (seeds, seeds - 1)
    )
    assert np.mean(few) < 0.83 and 0.77 < np.mean(many)


def test_estimates_are_judged_by_their_interval():
    for low, high, verdict in ((0.1, 0.5, "pass"), (-0.1, 0.5, "inconclusive"), (-0.5, -0.1, "fail")):
        found = check_estimate("c", "p", (low + high) / 2, Interval(low, high, 0.95), 100, least=0.0)
        assert found.verdict == verdict
    assert ranges.estimated(1.0, math.nan, math.nan, Range(0.0)).p == 1.0


def test_what_a_claim_has_to_state():
    whole = check_claim("c", "p", [0.2, 0.21, 0.19], least=0.1, **STATED, **CONTROLS)
    assert protocol.lacking(whole) == []
    parts = {
        "source": ("Somebody 2020", "source"),
        "reason": ("", "reason"),
        "expected": (None, "power"),
        "controls": ((), "control"),
        "values": ((0.2, 0.3), "3 values"),
        "least": (-math.inf, "range"),
    }
    for name, (value, word) in parts.items():
        assert any(word in one for one in protocol.lacking(dataclasses.replace(whole, **{name: value}))), name


def test_a_claim_survives_json():
    whole = check_claim("c", "p", [0.2, 0.21, 0.19], least=0.1, **STATED, **CONTROLS)
    assert claims.from_json(dataclasses.asdict(whole)) == whole
