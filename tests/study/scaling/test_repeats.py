"""Runs that differ in their seed alone: the test of lack of fit, and the bootstrap that draws them together."""

import numpy as np

from benchmarks.law import planted
from gpt_jax import registry
from gpt_jax.study.scaling import analysis, repeats
from gpt_jax.study.scaling import fit as fitting
from gpt_jax.study.scaling.report import describe
from gpt_jax.study.scaling.table import RunTable, settings

LAW = registry.build("study.scaling.laws", "chinchilla")


def repeated(times: int, noise: float, misfit: float = 0.0, count: int = 30, seed: int = 0) -> RunTable:
    """Runs of ``count`` settings, each with several seeds, and something that the law leaves out, alike in all seeds."""
    one, draw = planted(count=count), np.random.default_rng(seed)
    columns = {name: np.tile(values, times) for name, values in one.columns.items()}
    left_out = np.tile(draw.normal(0, misfit, count), times)
    columns["loss"] = columns["loss"] * np.exp(left_out + draw.normal(0, noise, times * count))
    return RunTable(tuple(map(str, range(times * count))), columns, ())


def lack_of_fit(runs: RunTable) -> repeats.LackOfFit | None:
    return repeats.lack_of_fit(fitting.fit(LAW, runs), runs)


def test_a_right_law_is_rarely_rejected_and_a_wrong_one_is():
    right = [lack_of_fit(repeated(3, 0.01, seed=seed)).p for seed in range(20)]
    assert np.mean(np.array(right) < 0.05) <= 0.2 and 0.2 < np.mean(right) < 0.8
    wrong = lack_of_fit(repeated(3, 0.003, misfit=0.02))
    assert wrong.significant and wrong.freedom == (25, 60) and wrong.ratio > 10


def test_the_test_is_about_least_squares_whatever_the_fit():
    runs = repeated(3, 0.01)
    ratios = [repeats.lack_of_fit(fitting.fit(LAW, runs, delta=delta), runs).ratio for delta in (1e-3, 1.0)]
    np.testing.assert_allclose(*ratios, rtol=1e-6)


def test_without_repeats_nothing_is_said():
    assert lack_of_fit(repeated(1, 0.01)) is None
    assert lack_of_fit(repeated(4, 0.01, count=5)) is None


def test_runs_of_one_setting_are_drawn_together():
    """So that three equal copies of every run do not make intervals smaller."""
    once, thrice = repeated(1, 0.01), repeated(1, 0.01)
    thrice = RunTable(thrice.names * 3, {name: np.tile(v, 3) for name, v in thrice.columns.items()}, ())
    assert (settings(thrice, LAW.columns) == np.tile(settings(once, LAW.columns), 3)).all()
    spread = [np.std(fitting.bootstrap(fitting.fit(LAW, runs), runs, 100)[:, 3]) for runs in (once, thrice)]
    np.testing.assert_allclose(spread[0], spread[1], rtol=0.05)


def test_the_report_says_that_a_law_does_not_fit():
    found = analysis.analyse(repeated(3, 0.003, misfit=0.02), resamples=20)
    assert found.lack_of_fit and "the law does not fit: its coefficients are no result" in describe(found)
