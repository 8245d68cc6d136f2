"""Arms that are to cost the same, and do."""

import pytest

import launch
from gpt_jax.configs import base
from gpt_jax.errors import UserError
from gpt_jax.study.sweep import Sweep, sweep
from gpt_jax.study.sweep.prepare import matching
from gpt_jax.study.sweep.results import SweepResults
from gpt_jax.train.record.metrics import read_summary

ARMS = {
    "gelu": {},
    "swiglu": {"model.mlp": "swiglu"},
    "mqa": {"model.kv_heads": 1},
    "latent": {"model.attention": "latent(rank=16, rope_dim=8)", "model.position": "rope"},
    "experts": {"model.mlp": "moe(experts=4, top_k=2)"},
}

TIMED = """
from gpt_jax.configs import base
from gpt_jax.study.sweep import Sweep

def sweep():
    c = base.get_config()
    c.model.update(layers=1, width=16, heads=2, context=16)
    c.data.update(source="markov()", tokenizer="none")
    c.train.update(steps=40, batch=8, eval_every=20, save_every=20, log_every=5, eval_batches=2, tensorboard=False)
    c.optim.warmup = 5
    c.sample.prompts = ()
    return Sweep(c, {"small": {}, "large": {"model.width": 96}}, seeds=(0,), match="seconds")
"""


def settings(by, arms=ARMS, **how):
    c = base.get_config()
    c.model.update(layers=2, width=64, heads=4, context=32, vocab=100)
    return Sweep(c, arms, match=by, **how)


@pytest.mark.parametrize("by", ["params", "flops"])
def test_every_arm_costs_what_the_baseline_does(by):
    matched = matching.match(settings(by))
    configs = {arm: sweep.resolve(matched.base, arm, overrides) for arm, overrides in matched.arms.items()}
    costs = {arm: matching.COSTS[by](config) for arm, config in configs.items()}
    assert all(cost == pytest.approx(costs["gelu"], rel=0.01) for cost in costs.values())
    assert matched.arms["gelu"] == {} and configs["swiglu"].model.mlp_width < 256 < configs["mqa"].model.mlp_width
    assert len(matched.notes) == 5 and "model.mlp_width" in matched.notes[1]


def test_a_width_beside_the_one_found_is_no_nearer():
    matched = matching.match(settings("params"))
    wanted = matching.params_of(sweep.resolve(matched.base, "gelu", {}))
    overrides = matched.arms["swiglu"]
    errors = [
        abs(matching.params_of(sweep.resolve(matched.base, "", {**overrides, "model.mlp_width": width})) - wanted)
        for width in range(overrides["model.mlp_width"] - 1, overrides["model.mlp_width"] + 2)
    ]
    assert errors[1] == min(errors)


def test_compute_is_matched_by_steps_too():
    matched = matching.match(settings("flops", {"gelu": {}, "wide": {"model.width": 128}}, knob="train.steps"))
    assert matched.arms["wide"]["train.steps"] < 500


def test_time_is_matched_by_steps():
    matched = matching.match(settings("seconds", {"a": {}, "b": {}, "c": {}}), {"a": 0.01, "b": 0.005, "c": 0.03})
    steps = sweep.resolve(matched.base, "a", {}).train.steps
    assert matched.arms == {"a": {}, "b": {"train.steps": 2 * steps}, "c": {"train.steps": round(steps / 3)}}


@pytest.mark.slow
def test_a_real_sweep_of_equal_time(tmp_path, capsys):
    (tmp_path / "timed.py").write_text(TIMED)
    command = ["sweep", f"--config={tmp_path / 'timed.py'}", f"--workdir={tmp_path / 'out'}", "--jobs=2"]
    assert launch.main(command) == 0
    results = SweepResults.read(tmp_path / "out")
    steps = {arm: read_summary(directory)["steps"] for arm in results.arms for directory in results.done(arm).values()}
    assert steps["small"] == 40 > steps["large"] >= 1
    assert any("large" in note and "ms" in note for note in results.notes)
    capsys.readouterr()
    assert launch.main(command) == 0
    said = capsys.readouterr().out
    assert said.count("0 to train") == 2 and {arm: len(results.done(arm)) for arm in results.arms} == {
        "small": 1,
        "large": 1,
    }
    (tmp_path / "timed.py").write_text(TIMED + "\ndef analyse(results):\n    return results.values()['larger']\n")
    assert launch.main(command) == 2
    said = capsys.readouterr()
    line = len(TIMED.splitlines()) + 3
    assert "analyse(results) raised KeyError: 'larger'" in said.err and f"timed.py:{line}" in said.err
    assert "report:" in said.out and "kept" in said.err


@pytest.mark.parametrize(
    "by, knob, arms, what",
    [
        ("parameters", "model.mlp_width", ARMS, "did you mean 'params'"),
        ("params", "optim.lr", ARMS, "integers"),
        ("params", "train.steps", {"a": {}, "b": {"model.mlp": "swiglu"}}, "cannot be matched"),
        ("params", "train.steps", {"a": {}, "b": {"model.mlp_width": 16}}, "does not rise"),
        ("params", "model.layers", {"a": {}, "b": {"model.mlp": "swiglu"}}, "finer knob"),
    ],
)
def test_what_cannot_be_matched_is_refused(by, knob, arms, what):
    with pytest.raises(UserError) as refusal:
        matching.match(settings(by, arms, knob=knob))
    assert what in str(refusal.value)
