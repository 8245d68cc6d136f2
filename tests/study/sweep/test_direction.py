"""Sweeps know of a metric whether more or less of it is better: from the objective."""

import json

import pytest

from gpt_jax.study.compare.statistics import BETTER, WORSE
from gpt_jax.study.report import figures, hyperparameters
from gpt_jax.study.sweep import Sweep, early_stopping, search
from gpt_jax.study.sweep import sweep as sweeps
from gpt_jax.study.sweep.results import NAME, SweepResults
from gpt_jax.train.record.metrics import write_summary
from tests.study.sweep.test_sweep import tiny

GOOD, BAD = f"{search.TRIAL}0", f"{search.TRIAL}1"
ACCURACY = {"base": 0.5, GOOD: 0.8, BAD: 0.2}
STEPS = 100


@pytest.fixture
def results(tmp_path):
    """A finished sweep of a classifier."""
    base = tiny(train__steps=STEPS, tune__objective="classify(classes=2)")
    arms = {arm: {"optim.lr": 1e-3 + accuracy} for arm, accuracy in ACCURACY.items()}
    sweep = Sweep(base, arms, seeds=range(4), metric="valid/accuracy", halve=(0.5,))
    planned = sweeps.jobs(sweep)
    results = SweepResults.plan(tmp_path, sweep, planned, tmp_path / "mine.py")
    facts = {"status": "done", "steps": STEPS, "tokens": STEPS, "flops": 1.0, "seconds": 1.0}
    for job in planned:
        value = ACCURACY[job.arms[0]] + 0.01 * job.seed + 0.001 * (int(job.id, 16) % 5)
        directory = results.directory(job.id)
        directory.mkdir(parents=True)
        write_summary(directory, {**facts, "final": {"valid/accuracy": value, "valid/loss": 1.0}, "best": {}})
        line = {"step": STEPS // 2, "tokens": 1, "time": 0.0, "valid/accuracy": value}
        (directory / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    return sweep, results, planned


def test_the_higher_accuracy_is_the_better_one(results):
    _, results, _ = results
    found = {row.arm: row.verdict for row in results.comparisons()}
    assert found == {GOOD: BETTER, BAD: WORSE}
    assert "higher is better" in results.verdicts()
    assert not SweepResults.read(results.workdir).lower_is_better


def test_the_lower_half_is_stopped_early(results):
    _, results, planned = results
    assert list(early_stopping._worse_half(results, planned, 0.5)) == [BAD]


def test_the_best_trial_is_the_highest(results):
    _, results, _ = results
    assert f"best of 2 trials: {GOOD}" in search.describe(results)


def test_losses_and_sweeps_of_earlier_versions_are_the_lower_the_better(results):
    sweep, results, planned = results
    assert sweeps.lower_is_better("valid/loss", planned) and not sweeps.lower_is_better("valid/macro_f1", planned)
    stored = json.loads((results.workdir / NAME).read_text())
    del stored["lower_is_better"]
    (results.workdir / NAME).write_text(json.dumps(stored))
    assert SweepResults.read(results.workdir).lower_is_better


def test_figures_put_the_better_arm_on_top(results):
    _, results, _ = results
    axis = figures.forest(results.comparisons(), results.metric, 0.0, results.lower_is_better).axes[0]
    assert [label.get_text() for label in axis.get_yticklabels()] == [BAD, GOOD]
    assert hyperparameters.table(results) is None  # three arms are too few
