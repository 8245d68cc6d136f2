"""Every knob is classed, and a run continues only as the run it was."""

import json

import pytest

from gpt_jax import configs
from gpt_jax.config import Config, flatten
from gpt_jax.configs import base
from gpt_jax.errors import UserError
from gpt_jax.run_directory import previous_config
from gpt_jax.train import schedules
from gpt_jax.train.checkpoint.resume import CHANGES, Change, check_fingerprint, check_resume


def config(**changes) -> Config:
    values = base.get_config()
    with values.unlocked():
        for key, value in changes.items():
            section, knob = key.split("__")
            values[section][knob] = value
    return Config.from_dict(values.to_dict())


def test_every_knob_is_classed():
    assert set(CHANGES) == set(flatten(config()))


def test_an_unchanged_run_resumes():
    assert check_resume(config(), config()) == []
    assert check_resume(Config.from_json(config().to_json()), config()) == []


def test_free_knobs_may_change():
    new = config(
        train__log_every=1, train__eval_every=5, sample__temperature=0.1, data__cache="/elsewhere", train__keep=9
    )
    assert check_resume(config(), new) == []


def test_knobs_that_reorder_arithmetic_are_told():
    new = config(train__accumulate=2, mesh__fsdp=2, train__log_every=1)
    assert check_resume(config(), new) == ["train.accumulate: 1 -> 2", "mesh.fsdp: 1 -> 2"]


@pytest.mark.parametrize(
    ("key", "value", "shown"),
    [
        ("optim__lr", 1e-4, "optim.lr: 0.0006 -> 0.0001"),
        ("train__batch", 16, "train.batch: 8 -> 16"),
        ("train__seed", 1, "train.seed: 0 -> 1"),
        ("model__layers", 6, "model.layers: 12 -> 6"),
        ("data__tokenizer", "bytes", "data.tokenizer: 'bpe(vocab_size=1024)' -> 'bytes'"),
        ("train__steps", 2000, "train.steps: 1000 -> 2000"),
    ],
)
def test_the_mathematics_may_not(key, value, shown):
    with pytest.raises(UserError) as caught:
        check_resume(config(), config(**{key: value}))
    assert shown in caught.value.what and "--workdir" in caught.value.fix
    assert caught.value.where == "config." + key.replace("__", ".")


def test_all_refused_knobs_are_named_at_once():
    with pytest.raises(UserError) as caught:
        check_resume(config(), config(optim__lr=1e-4, model__width=96, train__accumulate=2))
    assert "model.width: 768 -> 96" in caught.value.what and "optim.lr" in caught.value.what
    assert "accumulate" not in caught.value.what


@pytest.mark.parametrize("schedule", sorted(schedules.HORIZON_FREE))
def test_the_length_may_change_where_the_schedule_does_not_look_at_it(schedule):
    assert check_resume(config(optim__schedule=schedule), config(optim__schedule=schedule, train__steps=2000)) == []


def test_the_length_hint_lists_the_schedules():
    with pytest.raises(UserError, match="constant"):
        check_resume(config(), config(train__steps=2000))


def test_other_data_are_refused():
    check_fingerprint("abc", "abc")
    with pytest.raises(UserError, match="abc -> abd"):
        check_fingerprint("abc", "abd")


def test_the_classes_explain_themselves():
    assert all(change.value for change in Change) and len(set(CHANGES.values())) == len(Change)


def test_a_run_made_before_some_knobs_of_sampling_resumes(tmp_path):
    """Such a run has no value of theirs, and no number of its training depends on one."""
    stored = config(sample__top_k=7).to_dict()
    stored["sample"] = {name: stored["sample"][name] for name in ("temperature", "top_k")}
    (tmp_path / "config.json").write_text(json.dumps(stored))
    today = config(sample__min_p=0.5, train__log_every=1)
    before = previous_config(tmp_path, today)
    assert before is not None and before.sample.top_k == 7 and before.sample.min_p == 0.5
    assert check_resume(before, today) == []
    assert configs.of_run(tmp_path).sample.min_p == 0.0
    assert previous_config(tmp_path / "none", today) is None
    del stored["optim"]["ema"]
    (tmp_path / "config.json").write_text(json.dumps(stored))
    with pytest.raises(UserError, match="lacks ema"):
        previous_config(tmp_path, today)
