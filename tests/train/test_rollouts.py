"""Policies that learn from what they write: what a rollout holds, and runs that end where uninterrupted ones do."""

import json
import shutil

import jax
import numpy as np
import pytest
from flax import nnx

from gpt_jax.errors import UserError
from gpt_jax.model import gpt
from gpt_jax.train import loop
from gpt_jax.train.checkpoint.resume import check_resume
from gpt_jax.train.feeds import feed_of
from gpt_jax.train.feeds.rollout import adapted
from gpt_jax.train.run import open_run
from tests.reliability.kill import arrays, records
from tests.train import tiny

STEPS, STOP = 8, 4
TEMPERATURE = 0.7
NOTHING = 1e-30  # a learning rate


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A language model in q."""
    folder = tmp_path_factory.mktemp("policies")
    text = tiny.write_text(folder)
    loop.train(config(folder, data__source=f"text(path={str(text)!r})", train__steps=2), folder / "q")
    return folder


def config(folder, **changes):
    common = dict(data__cache=str(folder / "cache"), model__vocab=257, model__context=24, train__batch=8)
    return tiny.config(**{**common, "train__save_every": STOP, "train__eval_every": STOP, **changes})


def policy(folder, objective="ppo(kl=0.1)", **changes):
    """The settings of a run that learns from what it writes."""
    settings = dict(
        data__source="arithmetic(count=60, valid=12)",
        tune__objective=objective,
        tune__start=str(folder / "q"),
        tune__reward=((1.0, "ended"), (0.5, "exact")),
        tune__samples=4,
        tune__updates=2,
        train__steps=STEPS,
        optim__lr=1e-2,
        optim__warmup=0,
        sample__temperature=TEMPERATURE,
        sample__max_new_tokens=10,
    )
    return config(folder, **{**settings, **changes})


@pytest.fixture(scope="module")
def whole(folder):
    """The run directory of a run without a stop."""
    loop.train(policy(folder), folder / "ppo")
    return folder / "ppo"


def test_a_rollout_holds_what_the_policy_wrote(folder):
    """Every column by the whole logits, prompts of several lengths included."""
    run = open_run(policy(folder, "grpo(kl=0.0)"), folder / "looked at")
    params = run.program.init(3)["params"]
    run.__dict__["reference_model"] = None  # nothing has begun here
    feed = feed_of(run, {})
    state = {"params": params}
    parts = [jax.device_get(feed.batch(k, state)[0]) for k in range(2)]
    batch = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    said = feed.batch(1, state)[1]
    model = nnx.merge(gpt.graphdef(run.config.model), params)
    with jax.set_mesh(run.mesh):
        logits_BTV = np.asarray(model(batch["tokens"]), np.float64) / TEMPERATURE
    logs_BTV = logits_BTV - np.log(np.exp(logits_BTV).sum(-1, keepdims=True))
    wanted_BT = np.take_along_axis(logs_BTV, batch["targets"][..., None], -1)[..., 0]
    there_BT = batch["weights"] > 0
    np.testing.assert_allclose(batch["old"][there_BT], wanted_BT[there_BT], atol=1e-5)
    assert said["sampler_gap_max"] <= 1e-5
    prompts = {row["prompt"] for part in run.data.train.windows for row in part._rows}
    tokenizer = run.data.tokenizer
    for ids, targets, counts, advantage in zip(
        batch["tokens"], batch["targets"], there_BT, batch["advantage"], strict=True
    ):
        first = int(counts.argmax())
        assert tokenizer.decode([*ids[: first + 1]]) in prompts
        assert 1 <= counts.sum() <= 10 and counts[first : first + counts.sum()].all()
        assert len(set(advantage[counts])) == 1 and not advantage[~counts].any()
        assert (targets[counts][:-1] == ids[1:][counts[:-1]][: counts.sum() - 1]).all()
    assert len({tuple(row) for row in np.where(there_BT, batch["targets"], -1)}) > 8  # seeds differ


def test_at_a_learning_rate_of_nothing_nothing_drifts(folder):
    settings = policy(folder, "grpo(kl=0.1)", optim__lr=NOTHING, train__steps=20, tune__updates=4, tune__epochs=2)
    loop.train(settings, folder / "still")
    found = [record for record in records(folder / "still") if "train/loss" in record]
    assert len(found) == 20
    for record in found:
        assert record["train/ratio"] == pytest.approx(1, abs=1e-5) and record["train/moved"] < 1e-9
        assert abs(record["train/kl"]) < 1e-5 and record["train/kl_k3"] < 1e-9 and record["train/clipped"] == 0
        assert record["train/sampler_gap_max"] <= 1e-5


def test_what_is_reported(whole):
    found = records(whole)
    assert found[0]["step"] == 0 and found[0]["valid/kl"] == pytest.approx(0, abs=1e-5)
    last = {name: value for record in found for name, value in record.items()}
    names = {"reward", "reward_ended", "reward_exact", "length", "ended", "kl", "kl_k3", "kl_per_token"}
    assert {f"{side}/{name}" for side in ("train", "valid") for name in names} <= last.keys()
    assert {"train/entropy", "train/clipped", "train/value_loss", "train/dead_groups", "valid/greedy"} <= last.keys()
    assert last["valid/reward"] == pytest.approx(last["valid/reward_ended"] + last["valid/reward_exact"] / 2)
    summary = json.loads((whole / "summary.json").read_text())
    assert summary["best_by"] == "valid/reward" and (whole / "figures" / "loss.png").exists()
    assert "| best |" in (whole / "samples" / f"rollout-{STEPS}.md").read_text()


@pytest.mark.every(2)
@pytest.mark.parametrize("changes", [{}, {"tune__adapter": "lora(rank=2)"}])
def test_a_run_that_was_stopped_ends_where_an_uninterrupted_one_does(folder, whole, changes):
    """To the bit, with its records and samples, and without the model that it began with."""
    name = "adapted" if changes else "plain"
    settings = policy(folder, **changes)
    if changes:
        loop.train(settings, folder / "adapted whole")
    wanted = folder / "adapted whole" if changes else whole
    loop.train(settings, folder / name, until=STOP - 1)  # which is within a rollout
    assert max(record["step"] for record in records(folder / name) if "valid/reward" in record) == STOP
    shutil.move(folder / "q", folder / "hidden")
    try:
        loop.train(settings, folder / name)
    finally:
        shutil.move(folder / "hidden", folder / "q")
    assert records(folder / name) == records(wanted)
    found, whole_arrays = arrays(folder / name, STEPS), arrays(wanted, STEPS)
    assert found.keys() == whole_arrays.keys()
    assert all(found[path].tobytes() == whole_arrays[path].tobytes() for path in found)
    for sample in (wanted / "samples").glob("rollout-*"):
        assert (folder / name / "samples" / sample.name).read_text() == sample.read_text()


def test_how_a_policy_writes_does_not_change_on_the_way(folder, whole):
    for changes in (dict(sample__temperature=0.8), dict(sample__max_new_tokens=9), dict(tune__samples=2)):
        with pytest.raises(UserError, match="began with other settings"):
            loop.train(policy(folder, **changes), whole)
    changes = check_resume(policy(folder), policy(folder, sample__rows=3, sample__seed=5))
    assert changes == ["sample.rows: 8 -> 3"]


def test_a_policy_learns_what_is_rewarded(folder):
    settings = policy(
        folder, "grpo(kl=0.0)", tune__reward="ended", train__steps=30, tune__updates=1, train__batch=32, optim__lr=3e-2
    )
    loop.train(settings, folder / "ending")
    found = [record["valid/ended"] for record in records(folder / "ending") if "valid/ended" in record]
    assert found[-1] >= found[0] + 0.5


class FewAlive:
    """Rewards of 4 prompts with 4 completions each: at first two of the prompts are dead, then all but one, then all."""

    alive = (0, 2), (1,), ()

    def __init__(self):
        self.seen = []

    def of_some(self, completions):
        total_PG = np.arange(16.0).reshape(4, 4) + 16 * len(self.seen)
        dead = [p for p in range(4) if p not in self.alive[len(self.seen)]]
        total_PG[dead] = total_PG[dead, :1]
        self.seen.append(completions)
        return total_PG.reshape(-1), {}


def test_dead_prompts_fill_what_no_other_prompt_does(folder):
    run = open_run(policy(folder, "grpo(kl=0.0, resample=2)"), folder / "looked at")
    run.__dict__["reference_model"] = None  # nothing has begun here
    feed = feed_of(run, {})
    feed.rewards = FewAlive()
    written, total_N, said = feed._written(0, run.program.init(3)["params"])
    first, second, _ = feed.rewards.seen
    assert total_N.tolist() == [0, 1, 2, 3, 8, 9, 10, 11, 20, 21, 22, 23, 4, 4, 4, 4]
    assert [*map(id, written.completions)] == [*map(id, [*first[:4], *first[8:12], *second[4:8], *first[4:8]])]
    assert said["attempts"] == 3 and said["dead_groups"] == 0.5


@pytest.mark.slow
def test_other_prompts_take_the_place_of_dead_ones(folder):
    """In a run that was stopped too."""
    settings = policy(folder, "grpo(kl=0.0, resample=2)", tune__reward="ended", sample__max_new_tokens=3)
    loop.train(settings, folder / "resampled")
    loop.train(settings, folder / "resampled, stopped", until=STOP)
    loop.train(settings, folder / "resampled, stopped")
    assert records(folder / "resampled") == records(folder / "resampled, stopped")
    found = [record for record in records(folder / "resampled") if "train/attempts" in record]
    assert any(record["train/dead_groups"] > 0 for record in found)
    assert all((record["train/attempts"] > 1) == (record["train/dead_groups"] > 0) for record in found)


@pytest.mark.slow
def test_the_cost_of_divergence_follows_its_target(folder):
    assert adapted(0.1, divergence=12, target=6, rows=100, horizon=1000) == pytest.approx(0.1 * 1.02)
    assert adapted(0.1, divergence=5.4, target=6, rows=100, horizon=1000) == pytest.approx(0.1 * 0.99)
    settings = policy(folder, "ppo(kl=0.1, target=0.001, horizon=100)")
    loop.train(settings, folder / "adaptive")
    loop.train(settings, folder / "adaptive, stopped", until=STOP)
    loop.train(settings, folder / "adaptive, stopped")
    cost = 0.1
    for record in [r for r in records(folder / "adaptive") if "train/kl" in r][::2]:
        assert record["train/kl_coefficient"] == pytest.approx(cost, rel=1e-12)
        cost = adapted(cost, record["train/kl"], 0.001, rows=16, horizon=100)
    assert records(folder / "adaptive") == records(folder / "adaptive, stopped")


@pytest.mark.parametrize(
    "changes, words",
    [
        (dict(sample__top_k=5), ("sample.top_k", "another distribution")),
        (dict(sample__top_p=0.9), ("sample.top_p", "1.0 in rollouts")),
        (dict(sample__repetition_penalty=1.2), ("sample.repetition_penalty",)),
        (dict(sample__num_beams=2), ("sample.num_beams",)),
        (dict(sample__temperature=0.0), ("sample.temperature", "above 0")),
        (dict(model__dropout=0.1), ("model.dropout",)),
        (dict(train__save_every=3), ("train.save_every = 3", "multiple of 2")),
        (dict(train__eval_every=5), ("train.eval_every = 5", "multiple of 2")),
        (dict(train__steps=7), ("train.steps = 7", "multiple of 2")),
        (dict(tune__samples=1), ("tune.samples = 1", "2 or more")),
        (dict(tune__samples=3), ("tune.samples = 3", "multiple of 3")),
        (dict(tune__epochs=3), ("tune.epochs = 3", "multiple")),
        (dict(tune__objective="ppo(target=1.0, horizon=3)"), ("horizon = 3", "horizon above 3.2")),
        (dict(tune__reward=""), ("config.tune.reward", "exact")),
        (dict(tune__reward="exakt"), ("config.tune.reward", "exact")),
        (dict(tune__start=""), ("config.tune.reference", "none is named")),
        (dict(tune__objective="grpo(advantage='gae')"), ("needs a critic",)),
        (dict(tune__objective="grpo(mean='token')"), ("'token'", "tokens, sequences, constant")),
        (dict(data__source="markov()", data__tokenizer="none"), ("running text", "examples")),
    ],
)
def test_what_a_policy_cannot_learn_with_is_refused(folder, tmp_path, changes, words):
    with pytest.raises(UserError) as error:
        loop.train(policy(folder, **{"tune__objective": "grpo(kl=0.1)", **changes}), tmp_path / "run")
    assert all(word in str(error.value) for word in words), str(error.value)
    assert not (tmp_path / "run").exists()
