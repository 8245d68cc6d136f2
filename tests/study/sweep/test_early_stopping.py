"""Early stopping: what is trained when, error rates, and a real sweep."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

import launch
from gpt_jax.errors import UserError
from gpt_jax.storage import write_json
from gpt_jax.study.sweep import Sweep, early_stopping
from gpt_jax.study.sweep import sweep as sweeps
from gpt_jax.study.sweep.results import SweepResults
from gpt_jax.train.record.metrics import MetricsLog, read, summarise, write_summary
from tests.study.sweep.test_sweep import experiment, tiny

RATES = {"base": 6e-4, "good": 7e-4, "same": 8e-4, "bad": 9e-4}


def made(folder: Path, arms=tuple(RATES), updates: int = 1, **given):
    sweep = Sweep(
        tiny(train__steps=100, tune__updates=updates), {arm: {"optim.lr": RATES[arm]} for arm in arms}, **given
    )
    planned = sweeps.jobs(sweep)
    return sweep, SweepResults.plan(folder, sweep, planned, Path("mine.py")), planned


def train(results, job, value: float) -> None:
    """Leaves what a run leaves that has come to where it pauses or ends."""
    directory = results.directory(job.id)
    directory.mkdir(parents=True, exist_ok=True)
    step = job.until or 100
    write_json(directory / "config.json", job.config.to_dict())
    log = MetricsLog(directory, step - 1)
    log.write(step, {"tokens": step, "valid/loss": value})
    log.close()
    facts = {
        "status": "done" if step == 100 else "stopped",
        "steps": step,
        "tokens": step,
        "flops": 1.0,
        "seconds": 1.0,
    }
    write_summary(directory, {**facts, **summarise(read(directory))})


def run(sweep, results, planned, effect, random) -> list[list[str]]:
    """The arms and seeds of every stage, trained as they are asked for."""
    stages = []
    for jobs in early_stopping.stages(sweep, results, planned):
        stages.append([f"{job.arms[0]} {job.seed} {job.until}".removesuffix(" 0") for job in jobs])
        for job in jobs:
            train(results, job, 3 + 0.1 * job.seed + effect[job.arms[0]] + 0.01 * random.standard_normal())
    return stages


EFFECT = {"base": 0.0, "good": -1.0, "same": 0.0, "bad": 1.0}


def test_an_arm_whose_verdict_is_clear_gets_no_more_seeds(tmp_path):
    given = dict(seeds=tuple(range(6)), looks=(4, 6))
    stages = run(*made(tmp_path, **given), EFFECT, np.random.default_rng(0))
    assert len(stages[0]) == 16 and sorted(stages[1]) == ["base 4", "base 5", "same 4", "same 5"]
    results = SweepResults.read(tmp_path)
    assert set(results.stopped_early()) == {"good", "bad"} and "better after 4 seeds" in results.stopped_early()["good"]
    assert (
        results.complete
        and results.status(next(id for id, e in results.runs.items() if e.name == "good, seed 5")) == "stopped early"
    )
    rows = {row.arm: row for row in results.comparisons()}
    assert (rows["good"].verdict, rows["bad"].verdict) == ("better", "worse") and len(rows["good"].seeds) == 4


def test_an_arm_without_a_finite_value_leaves_the_others_their_verdicts(tmp_path):
    given = dict(seeds=tuple(range(6)), looks=(4, 6))
    stages = run(*made(tmp_path, **given), EFFECT | {"same": math.nan}, np.random.default_rng(0))
    results = SweepResults.read(tmp_path)
    assert results.complete and len(stages) == 2
    assert {row.arm: row.verdict for row in results.comparisons()} == {"good": "better", "bad": "worse"}
    assert "same: no finite valid/loss at a seed at which base has one" in results.verdicts()


def test_the_same_decisions_are_taken_again(tmp_path):
    given = dict(seeds=tuple(range(6)), looks=(4, 6))
    run(*made(tmp_path, **given), EFFECT, np.random.default_rng(0))
    stopped = SweepResults.read(tmp_path).stopped_early()
    assert run(*made(tmp_path, **given), EFFECT, np.random.default_rng(1)) == [[], []]
    assert SweepResults.read(tmp_path).stopped_early() == stopped
    # Without looks, arms that were stopped early are trained after all.
    assert len(next(early_stopping.stages(*made(tmp_path, seeds=tuple(range(6)))))) == 4


def test_once_all_is_clear_the_baseline_ends_too(tmp_path):
    given = dict(seeds=tuple(range(6)), looks=(4, 6), arms=("base", "good", "bad"))
    assert len(run(*made(tmp_path, **given), EFFECT, np.random.default_rng(0))) == 1
    results = SweepResults.read(tmp_path)
    assert results.stopped_early()["base"] == "every verdict is clear after 4 seeds" and results.complete


def test_looks_err_as_rarely_as_stated(tmp_path):
    random, wrong, number = np.random.default_rng(3), 0, 60
    for i in range(number):
        sweep, results, planned = made(tmp_path / str(i), ("base", "same"), seeds=tuple(range(6)), looks=(2, 4, 6))
        run(sweep, results, planned, EFFECT, random)
        wrong += results.comparisons()[0].verdict in ("better", "worse")
    assert wrong / number < 0.13


def test_the_worse_half_is_stopped_early(tmp_path):
    stages = run(*made(tmp_path, seeds=(0, 1), halve=(0.2, 0.5)), EFFECT, np.random.default_rng(0))
    assert len(stages[0]) == 8 and all(word.endswith(" 20") for word in stages[0])
    assert sorted(stages[1]) == [f"{arm} {seed} 50" for arm in ("base", "good", "same") for seed in (0, 1)]
    assert sorted(stages[2]) == [f"{arm} {seed}" for arm in ("base", "good") for seed in (0, 1)]
    assert set(SweepResults.read(tmp_path).stopped_early()) == {"bad", "same"}


def test_runs_pause_between_rollouts(tmp_path):
    stages = run(*made(tmp_path, updates=4, seeds=(0,), halve=(0.01, 0.21)), EFFECT, np.random.default_rng(0))
    assert stages[0][0].endswith(" 4") and stages[1][0].endswith(" 24")
    assert set(SweepResults.read(tmp_path).stopped_early()) == {"bad", "same"}


@pytest.mark.parametrize(
    "given, what",
    [
        (dict(looks=(2, 3), halve=(0.5,)), "not both"),
        (dict(looks=(1, 3)), "looks after"),
        (dict(looks=(2, 4)), "looks after"),
        (dict(halve=(0.5, 1.0)), "halvings after"),
        (dict(halve=(0.5,), baseline=None), "there is none"),
    ],
)
def test_invalid_settings_are_refused(given, what):
    with pytest.raises(UserError, match=what):
        early_stopping.check(Sweep(tiny(), {"a": {}}, seeds=(0, 1, 2), **given))


@pytest.mark.slow
def test_a_real_one_pauses_and_goes_on(tmp_path, capsys):
    words = experiment(tmp_path, arms='{"base": {}, "good": {"optim.lr": 1e-2}, "bad": {"optim.lr": 1e-9}}')
    path = tmp_path / "tiny.py"
    path.write_text(path.read_text().replace("seeds=(0, 1)", "seeds=(0,), halve=(0.35,)"))
    assert launch.main(words) == 0
    said = capsys.readouterr().out
    assert "bad: stopped early, in the worse half after 35% of the steps" in said and "good" in said
    results = SweepResults.read(tmp_path / "out")
    steps = {
        e.arms[0]: json.loads((results.directory(id) / "summary.json").read_text())["steps"]
        for id, e in results.runs.items()
    }
    assert steps == {"base": 20, "good": 20, "bad": 7}
    records = [row["step"] for row in read(results.done("good")[0]) if "valid/loss" in row]
    assert records == [7, 20]
    assert "bad: stopped early" in (tmp_path / "out" / "report.html").read_text()
