"""Searches: what they propose, that they go on as they went before, and a real one."""

import math
import sys

import numpy as np
import pytest

import launch
from gpt_jax.errors import UserError
from gpt_jax.study.sweep import Sweep
from gpt_jax.study.sweep.arms import log_uniform
from gpt_jax.study.sweep.results import SweepResults
from gpt_jax.study.sweep.search import Search, rounds
from tests.study.sweep.test_sweep import experiment, tiny

SPACE = {"optim.lr": log_uniform(1e-6, 1e2), "model.mlp": ["gelu", "swiglu"]}
optuna = pytest.importorskip("optuna")


def loss(overrides) -> float:
    """Lowest, 1, at lr 1e-3 with swiglu."""
    return 1 + (math.log10(overrides["optim.lr"]) + 3) ** 2 + (overrides["model.mlp"] == "gelu")


def searched(seed: int = 0, failing=(), **given):
    search = Search(SPACE, **{"trials": 40, "at_once": 4, "seed": seed, **given})
    sweep, arms = Sweep(tiny(), {}, search=search, baseline=None), {}
    losses_so_far = lambda: {arm: math.nan if arm in failing else loss(overrides) for arm, overrides in arms.items()}
    counts = []
    for grown in rounds(sweep, losses_so_far):
        arms = grown.arms
        counts.append(len(arms))
    return arms, counts


def test_later_trials_are_nearer_to_the_best():
    better = []
    for seed in range(3):
        arms, counts = searched(seed)
        assert counts == list(range(4, 41, 4))
        losses = [loss(overrides) for overrides in arms.values()]
        better.append(np.median(losses[:12]) - np.median(losses[-12:]))
        assert min(losses) < 1.5
    assert np.mean(better) > 1


def test_the_same_search_proposes_the_same():
    assert searched() == searched() and searched()[0] != searched(1)[0]
    arms, _ = searched(failing=("trial 0", "trial 13"))
    assert len(arms) == 40
    assert searched(trials=6)[1] == [4, 6]


@pytest.mark.parametrize(
    "given, what",
    [
        (dict(search=Search({}, 4), baseline=None), "over 0 knobs"),
        (dict(search=Search(SPACE, 0), baseline=None), "0 trials"),
        (dict(search=Search(SPACE, 4), arms={"a": {}}, seeds=(0, 1, 2), looks=(2, 3)), "cannot be combined with looks"),
        (dict(search=Search(SPACE, 4)), "there is none"),
    ],
)
def test_what_cannot_be_is_refused(given, what):
    with pytest.raises(UserError, match=what):
        next(rounds(Sweep(tiny(), **{"arms": {}, **given}), dict))
    with pytest.raises(UserError, match="low < high"):
        log_uniform(1.0, 1.0)


def test_without_optuna_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UserError, match="needs Optuna"):
        next(rounds(Sweep(tiny(), {}, search=Search(SPACE, 4), baseline=None), dict))


@pytest.mark.slow
def test_a_real_one(tmp_path, capsys):
    words = experiment(tmp_path, steps=6, arms='{"plain": {}}')
    path = tmp_path / "tiny.py"
    text = path.read_text().replace(
        "seeds=(0, 1)", "seeds=(0,), search=Search({'optim.lr': log_uniform(1e-4, 1e-1)}, 4, at_once=2)"
    )
    path.write_text(
        "from gpt_jax.study.sweep import log_uniform\nfrom gpt_jax.study.sweep.search import Search\n" + text
    )
    assert launch.main(words) == 0
    said = capsys.readouterr().out
    assert "best of 4 trials: trial" in said and "optim.lr = " in said
    results = SweepResults.read(tmp_path / "out")
    assert list(results.arms) == ["plain", "trial 0", "trial 1", "trial 2", "trial 3"] and results.complete
    assert launch.main(words) == 0
    assert "5 runs: 5 finished, 0 to train" in capsys.readouterr().out
    assert SweepResults.read(tmp_path / "out").arms == results.arms
