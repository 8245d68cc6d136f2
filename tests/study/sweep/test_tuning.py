"""A knob tuned for every arm before a sweep."""

import dataclasses
import math

import pytest

from gpt_jax.configs import base
from gpt_jax.errors import UserError
from gpt_jax.study.run import Execution, run
from gpt_jax.study.sweep import Sweep
from gpt_jax.study.sweep.prepare import tuning
from gpt_jax.study.sweep.results import SweepResults
from gpt_jax.study.sweep.sweep import jobs

ARMS = {"a": {"optim.lr": 1e-3}, "b": {"optim.lr": 1e-3, "model.width": 384}}


def sweep(**given):
    return Sweep(base.get_config(), **{"arms": ARMS, "tune": "optim.lr", **given})


def measuring(best: dict[str, float]):
    """Costs that are least at ``best``, and what was asked."""
    asked = []

    def measure(one: Sweep):
        asked.append(one)
        return {name: abs(math.log(knobs["optim.lr"] / best[name[0]])) for name, knobs in one.arms.items()}

    return measure, asked


def test_each_arm_gets_its_own_best_value_wherever_it_began():
    measure, asked = measuring({"a": 1e-3, "b": 8.1e-3})
    found = tuning.tuned(sweep(), measure)
    assert found.arms["a"]["optim.lr"] == 1e-3 and found.arms["b"] == {"optim.lr": 8e-3, "model.width": 384}
    assert found.tune == "" and found.seeds == (0, 1, 2)
    assert all(one.seeds == (1000, 1001) and one.baseline is None for one in asked)
    assert "b: optim.lr = 0.008, the best of 0.0005, 0.001, 0.002, 0.004, 0.008, 0.016" in found.notes[1]
    assert len([name for name in asked[-1].arms if name.startswith("a")]) == 3


def test_arms_that_others_begin_with_are_there_at_their_own_value():
    arms = {**ARMS, "c": {"tune.start": "arm:a", "optim.lr": 1e-3}}
    measure, asked = measuring({"a": 1e-3, "b": 1e-3, "c": 2e-3})
    found = tuning.tuned(sweep(arms=arms), measure)
    assert found.arms["c"] == {"tune.start": "arm:a", "optim.lr": 2e-3}
    planned = {name: job.id for job in jobs(asked[-1]) for name in job.arms}
    assert "b" not in planned and planned["a"] == planned["a, optim.lr 0.001"]


def test_the_search_ends():
    measure, asked = measuring({"a": 1e-3, "b": 1e9})
    found = tuning.tuned(sweep(), measure)
    assert len([name for name in asked[-1].arms if name.startswith("b")]) == tuning.MOST
    assert found.arms["b"]["optim.lr"] == pytest.approx(1e-3 * 2 ** (tuning.MOST - 2))
    assert found.notes[1].endswith("the last that was tried") and "the last" not in found.notes[0]


def test_values_that_diverge_are_the_worst():
    def measure(one: Sweep):
        rates = {name: knobs["optim.lr"] for name, knobs in one.arms.items()}
        return {name: math.nan if rate > 1e-3 else -math.log(rate) for name, rate in rates.items()}

    assert tuning.tuned(sweep(), measure).arms["a"]["optim.lr"] == 1e-3
    with pytest.raises(UserError, match="no finite valid/loss at any optim.lr"):
        tuning.tuned(sweep(), lambda one: dict.fromkeys(one.arms, math.nan))


@pytest.mark.parametrize(
    "given, match",
    [
        ({"tune": "optim.rate"}, "rate"),
        ({"tune": "optim.optimizer"}, "cannot be tuned"),
        ({"tune": "model.scan"}, "cannot be tuned"),
        ({"tune_seeds": (2, 3)}, "seed 2 is tuned on and scored"),
        ({"tune_seeds": "ab"}, "tune_seeds"),
    ],
)
def test_what_cannot_be_tuned_is_refused_before_anything_is_trained(given, match):
    with pytest.raises(UserError, match=match):
        tuning.tuned(sweep(**given), lambda one: pytest.fail("trained"))


@pytest.mark.slow
def test_a_sweep_is_tuned_and_then_trained(tmp_path):
    c = base.get_config()
    c.model.update(layers=1, width=16, heads=2, context=16)
    c.data.update(source="markov()", tokenizer="none")
    c.optim.update(warmup=0)
    c.train.update(steps=20, batch=8, eval_every=10, save_every=20, eval_batches=4, tensorboard=False)
    c.sample.prompts = ()
    made = Sweep(c, {"tied": {"optim.lr": 3e-3}}, seeds=(0,), tune="optim.lr", tune_seeds=(7,))
    source = tmp_path / "mine.py"
    source.write_text("")
    results = run(made, Execution(source, tmp_path / "sweep", jobs=1))
    tried = SweepResults.read(tmp_path / "sweep" / tuning.FOLDER)
    means = tried.means()
    best = min(means, key=means.get)
    assert len(means) >= 3 and f"optim.lr {results.arms['tied']['optim.lr']:g}" in best
    assert results.notes[0].startswith("tied: optim.lr = ") and results.seeds == (0,) and results.complete
    again = run(dataclasses.replace(made), Execution(source, tmp_path / "sweep", jobs=1))
    assert again.runs == results.runs
