"""The reward that a reward model gives: that of its head, for many completions of several prompts at once."""

import contextlib
import io
import json
import shutil

import numpy as np
import pytest

from gpt_jax import api
from gpt_jax.errors import UserError
from gpt_jax.train import loop
from gpt_jax.train.rewards import WHERE
from gpt_jax.train.rollouts.rewarding import Rewards
from tests.train import tiny
from tests.train.rewards.completions import completion

CONTEXT = 48
PROMPTS = ("abc", "fed", "", "a b", [{"role": "user", "content": "bcd"}])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("rewards")


@pytest.fixture(scope="module")
def run(folder):
    words = ["".join(np.random.default_rng(i).choice(list("abcdef"), size=3)) for i in range(40)]
    rows = [{"prompt": word, "chosen": f" {word}!", "rejected": f" {word}?"} for word in words]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = dict(data__source=f"jsonl(path={str(folder / 'pairs.jsonl')!r})", data__cache=str(folder / "cache"))
    model = dict(model__vocab=0, model__context=CONTEXT, tune__objective="reward", optim__lr=3e-2)
    steps = dict(train__batch=8, train__save_every=6, train__keep=9)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        loop.train(tiny.config(**data, **model, **steps, data__valid_fraction=0.3), folder / "rm")
    return folder / "rm"


def rewards(run: str, **changes) -> Rewards:
    return Rewards.of(tiny.config(tune__reward=f"model(run={str(run)!r})", **changes))


def test_it_is_the_score_of_its_head_whatever_else_is_asked_for(run):
    head = api.load(run).head
    texts = [f" {word}{mark}" for word in ("abc", "fed", "a" * 14, "b" * 30) for mark in "!?"]
    given = [completion(text, prompt=prompt) for prompt in PROMPTS for text in ("", *texts)]
    total_N, _ = rewards(run)(given)
    wanted = [head.reward(one.row["prompt"], one.text)[0] for one in given]
    np.testing.assert_allclose(total_N, wanted, atol=1e-5)
    assert np.std(wanted) > 1e-2
    np.testing.assert_allclose(rewards(run)(given[::-1])[0][::-1], total_N, atol=1e-5)
    np.testing.assert_allclose(rewards(run)(given[7:8])[0], total_N[7:8], atol=1e-5)


def test_what_does_not_fit_into_its_context_has_no_reward(run):
    room = CONTEXT - len("abc") - 1  # of the token that ends it
    fits, one_more = (completion("a" * n, prompt="abc") for n in (room, room + 1))
    total_N, _ = rewards(run)([one_more, fits, one_more])
    np.testing.assert_array_equal(np.isfinite(total_N), [False, True, False])
    assert total_N[1] == pytest.approx(api.load(run).head.reward("abc", fits.text)[0], abs=1e-5)
    assert not np.isfinite(rewards(run)([one_more])[0]).any()


def test_its_template_and_tokenizer_are_its_own(run):
    """Whatever those of the run are that learns from it."""
    given = [completion(" abc!", prompt="abc", ids=[1, 2])]
    other = rewards(run, data__tokenizer="chars", data__template="chatml", model__context=8)
    np.testing.assert_array_equal(other(given)[0], rewards(run)(given)[0])


def test_a_step_can_be_named(run):
    given = [completion(" abc!", prompt="abc")]
    first, last, newest = (rewards(f"{run}{step}")(given)[0] for step in ("@6", "@12", ""))
    assert last == newest != first


def test_it_is_read_once(run):
    """When the reward is made: from then on its files are not needed."""
    made = rewards(run)
    away = run.with_name("away")
    run.rename(away)
    try:
        assert np.isfinite(made([completion(" abc!", prompt="abc")])[0]).all()
    finally:
        away.rename(run)


def test_a_policy_is_held_to_the_step_that_it_began_with(run, tmp_path):
    given = [completion(" abc!", prompt="abc")]
    reward = tiny.config(tune__reward=f"model(run={str(run)!r})")
    early = shutil.copytree(run, tmp_path / "rm")
    shutil.rmtree(early / "checkpoints" / "12")
    asked = tiny.config(tune__reward=((1.0, f"model(run={str(early)!r})"), (0.5, f"model(run='{early}@6')")))
    workdir = tmp_path / "policy"
    workdir.mkdir()
    first = Rewards.of(asked, workdir)
    assert [held.step for held in first.held] == [6, 6] and Rewards.of(reward).held[0].step == 12
    for held in first.held:
        held.keep(workdir)
    shutil.copytree(run / "checkpoints" / "12", early / "checkpoints" / "12")  # it was trained on
    np.testing.assert_array_equal(Rewards.of(asked, workdir)(given)[0], first(given)[0])
    assert Rewards.of(asked)(given)[0] != first(given)[0]
    shutil.rmtree(early / "checkpoints" / "6")
    with pytest.raises(UserError, match="no checkpoint of step 6"):
        Rewards.of(asked, workdir)
    shutil.copytree(run / "checkpoints" / "6", early / "checkpoints" / "6")
    pinned = workdir / "reward-model.json"
    pinned.write_text(json.dumps(json.loads(pinned.read_text()) | {"digest": "0" * 64}))
    with pytest.raises(UserError, match="is not the one that this run began with"):
        Rewards.of(asked, workdir)


def test_what_is_no_reward_model_is_refused(run, folder):
    answers = shutil.copytree(run, folder / "answers")
    values = json.loads((answers / "config.json").read_text())
    values["tune"]["objective"] = "lm"
    (answers / "config.json").write_text(json.dumps(values))
    (folder / "empty").mkdir()
    pretrained = folder / "hub"
    pretrained.mkdir()
    (pretrained / "config.json").write_text('{"model_type": "gpt2"}')
    for where, said in (
        (answers, "objective = lm, and scores nothing"),
        (folder / "nowhere", "no directory"),
        (folder / "empty", "no config.json"),
        (f"{run}@7", "no checkpoint of step 7"),
        (pretrained, "Hugging Face"),
        ("", "an empty path"),
    ):
        with pytest.raises(UserError, match=said) as error:
            rewards(where)
        assert error.value.where == WHERE and error.value.exit_code == 2
