"""Predictions of published runs: the constants are those that the fit finds, and the document's table is the module's."""

import math
import statistics

import pytest

from benchmarks.published.__main__ import BEGIN, DOCUMENT, END, error, fits, fitted, table
from benchmarks.published.systems import by_flops, shape, systems
from gpt_jax.mesh.planning.chips import CHIPS
from gpt_jax.mesh.planning.roofline import Layout

SYSTEMS = systems()


def test_chips_have_the_constants_that_are_fitted():
    assert {name: (CHIPS[name].products, CHIPS[name].half_width) for name in fits(SYSTEMS)} == fitted(SYSTEMS)


def test_runs_that_nothing_is_fitted_to_are_predicted():
    used = [run for runs in fits(SYSTEMS).values() for run in runs]
    tested = [abs(error(run)) for run in SYSTEMS if run.counts and run not in used]
    assert len(tested) >= 15 and statistics.median(tested) <= 0.15


def test_the_documents_table_is_that_of_the_module():
    assert DOCUMENT.read_text("utf-8").partition(BEGIN)[2].partition(END)[0] == table(SYSTEMS) + "\n"


def test_every_run_says_where_it_stands_and_takes_as_long_as_it_can():
    for run in SYSTEMS:
        assert run.source and run.seconds > 0 and run.layout.devices == math.prod(run.layout.axes.values())
        rate = run.shape.model_flops * run.layout.batch * run.shape.context / run.layout.devices / run.seconds
        assert 0.2 < rate / (CHIPS[run.chip].rate or 0) < 0.8


def test_flops_of_a_second_become_seconds_of_a_step():
    model = shape(2, 64, 2, 100, 16)
    run = by_flops("x", "h100", model, Layout({"data": 2}, 4), 1e12, "here")
    assert run.seconds == pytest.approx(4 * 16 * model.model_flops / 2 / 1e12)
