"""Arms that start from other arms."""

import json
from pathlib import Path

import pytest

import launch
from gpt_jax.errors import UserError
from gpt_jax.study.sweep import Sweep, starts
from gpt_jax.study.sweep import sweep as sweeps
from gpt_jax.study.sweep.results import SweepResults
from gpt_jax.study.sweep.worker import order_of
from gpt_jax.train.checkpoint import manifest
from tests.study.sweep.test_sweep import experiment, tiny

ARMS = {
    "tuned": {"tune.start": "arm:base", "train.steps": 10, "optim.lr": 1e-4},
    "base": {"train.steps": 20},
    "twice": {"tune.start": "arm:tuned", "train.steps": 5},
}


def test_each_run_follows_the_one_that_it_starts_from_with_the_same_seed():
    planned = {(job.arms[0], job.seed): job for job in sweeps.jobs(Sweep(tiny(), ARMS, seeds=(0, 1), baseline=None))}
    for seed in (0, 1):
        assert planned["base", seed].after == ()
        assert planned["tuned", seed].after == (planned["base", seed].id,)
        assert planned["twice", seed].after == (planned["tuned", seed].id,)
    ids = [job.id for job in planned.values()]
    assert len(set(ids)) == 6
    # Another setting of the start is another run.
    other = {**ARMS, "base": {"train.steps": 21}}
    changed = sweeps.jobs(Sweep(tiny(), other, seeds=(0, 1), baseline=None))
    assert not {job.id for job in changed} & set(ids)


def test_waves_are_trained_one_after_another():
    planned = sweeps.jobs(Sweep(tiny(), ARMS, seeds=(0,), baseline=None))
    done: set[str] = set()
    order = []
    for wave in starts.waves(planned, done.__contains__):
        order.append([job.arms[0] for job in wave])
        done |= {job.id for job in wave}
    assert order == [["base"], ["tuned"], ["twice"]]
    assert list(starts.waves([job for job in planned if job.after], lambda id: False)) == []


def test_a_knob_of_the_start_is_taken_over():
    arms = {"base": {"model.width": 24}, "tuned": {"tune.start": "arm:base", "model.width": "start"}}
    tuned = next(job for job in sweeps.jobs(Sweep(tiny(), arms, seeds=(0,), baseline=None)) if job.after)
    assert tuned.config.model.width == 24
    arms["tuned"] |= {"data.tokenizer": "start"}
    tuned = next(job for job in sweeps.jobs(Sweep(tiny(), arms, seeds=(0,), baseline=None)) if job.after)
    order = order_of(tuned, Path("/a/sweep/runs") / tuned.id)["config"]
    assert order["tune"]["start"] == f"/a/sweep/runs/{tuned.after[0]}"
    assert order["data"]["tokenizer"] == f"run(path='/a/sweep/runs/{tuned.after[0]}')"


def test_teachers_references_and_tokenizers_are_runs_of_arms():
    arms = {
        "large": {"model.width": 24},
        "base": {},
        "small": {"data.tokenizer": "run(path='arm:large')"},
        "tuned": {"tune.start": "arm:base", "tune.reference": "arm:small"},
    }
    planned = {job.arms[0]: job for job in sweeps.jobs(Sweep(tiny(), arms, seeds=(3,), baseline=None))}
    assert planned["small"].after == (planned["large"].id,)
    assert set(planned["tuned"].after) == {planned["base"].id, planned["small"].id}
    order = order_of(planned["tuned"], Path("/a/sweep/runs") / planned["tuned"].id)["config"]
    assert order["tune"]["reference"] == f"/a/sweep/runs/{planned['small'].id}"
    assert order["tune"]["start"] == f"/a/sweep/runs/{planned['base'].id}"


def test_a_reward_among_others_is_the_run_of_an_arm():
    arms = {
        "judge": {"model.width": 24},
        "policy": {"tune.reward": ((1.0, "model(run='arm:judge')"), (0.0, "ended"))},
        "alone": {"tune.reward": "model(run='arm:judge')"},
    }
    planned = {job.arms[0]: job for job in sweeps.jobs(Sweep(tiny(), arms, seeds=(3,), baseline=None))}
    judge = f"model(run='/a/sweep/runs/{planned['judge'].id}')"
    for arm, asked in (("policy", ((1.0, judge), (0.0, "ended"))), ("alone", judge)):
        assert planned[arm].after == (planned["judge"].id,)
        order = order_of(planned[arm], Path("/a/sweep/runs") / planned[arm].id)["config"]
        assert order["tune"]["reward"] == asked


@pytest.mark.parametrize(
    "arms, what",
    [
        ({"a": {"tune.start": "arm:bas"}, "base": {}}, "there is no such arm"),
        ({"a": {"tune.start": "arm:a"}}, "needs itself"),
        ({"a": {"tune.start": "arm:b"}, "b": {"tune.start": "arm:a"}}, "needs itself"),
    ],
)
def test_bad_starts(arms, what):
    with pytest.raises(UserError, match=what):
        sweeps.jobs(Sweep(tiny(), arms, seeds=(0,), baseline=None))


@pytest.mark.slow
def test_a_sweep_of_arms_that_start_from_an_arm(tmp_path):
    arms = """{
        "tuned": {"tune.start": "arm:base", "train.steps": 10, "data.source": "markov(seed=1)"}, "base": {}
    }"""
    command = experiment(tmp_path, arms=arms)
    text = (tmp_path / "tiny.py").read_text()
    (tmp_path / "tiny.py").write_text(text.replace("seeds=(0, 1)", "seeds=(0, 1), baseline=None"))
    assert launch.main(command) == 0
    results = SweepResults.read(tmp_path / "out")
    assert results.complete
    for seed in (0, 1):
        parent, run = results.done("base")[seed], results.done("tuned")[seed]
        found = json.loads((run / "checkpoints" / "10" / manifest.NAME).read_text())["meta"]["parent"]
        assert found["start"] == str(parent.resolve()) and found["step"] == 20
    # Arms that are to come may have the metric that those before them lack.
    with pytest.raises(UserError, match="has no valid/accuracy"):
        results.values("valid/accuracy")
    (run / "summary.json").unlink()
    assert results.values("valid/accuracy") == {"tuned": {}, "base": {}}


def test_runs_whose_start_failed_are_not_trained(tmp_path, capfd):
    arms = """{"tuned": {"tune.start": "arm:base"}, "base": {"data.source": "text(path='/nowhere')"}}"""
    command = experiment(tmp_path, arms=arms)
    text = (tmp_path / "tiny.py").read_text()
    (tmp_path / "tiny.py").write_text(text.replace("seeds=(0, 1)", "seeds=(0,), baseline=None"))
    assert launch.main(command) == 2
    assert "1 of 2 runs failed" in capfd.readouterr().err
