"""Runs that measure preferences against a model: its log-probabilities are computed once and kept, and the run needs it no
more."""

import dataclasses
import json
import math
import shutil

import numpy as np
import pytest
from flax import nnx

from gpt_jax.data.open import open_data
from gpt_jax.errors import StorageError, UserError
from gpt_jax.model import gpt, layout
from gpt_jax.train import loop, plan, reference
from gpt_jax.train.feeds.read import evaluate_run
from gpt_jax.train.run import open_run
from gpt_jax.train.starting import start
from gpt_jax.train.step import objective_of
from tests.reliability.kill import arrays, records
from tests.train import tiny
from tests.trained import subwords

STEPS, STOP = 6, 3
PROMPTS = ("the cat ", "a dog ", "the mat ")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A language model in q, another in small, and pairs."""
    folder = tmp_path_factory.mktemp("preferences")
    rows = [
        {"prompt": PROMPTS[i % 3] + "x" * (i % 2), "chosen": "sat" + "!" * (i % 4), "rejected": "ran " + "on" * (i % 3)}
        for i in range(40)
    ]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    labelled = [
        {"prompt": f"{i} {row['prompt']}", "completion": row["chosen"], "label": i % 2 == 0}
        for i, row in enumerate(rows)
    ]
    (folder / "labelled.jsonl").write_text("".join(json.dumps(row) + "\n" for row in labelled))
    text = tiny.write_text(folder)
    for name, width in (("q", 16), ("small", 8)):
        source = dict(data__source=f"text(path={str(text)!r})", train__steps=2)
        loop.train(config(folder, **source, model__width=width), folder / name)
    return folder


def config(folder, **changes):
    common = dict(data__cache=str(folder / "cache"), model__vocab=257, model__context=24, train__batch=8)
    return tiny.config(**{**common, "train__save_every": STOP, "train__eval_every": STOP, **changes})


def tuned(folder, objective="dpo(beta=0.5)", **changes):
    """The settings of a run that prefers."""
    name = "labelled" if objective.startswith("kto") else "pairs"
    settings = dict(
        data__source=f"jsonl(path={str(folder / name) + '.jsonl'!r})",
        tune__objective=objective,
        tune__start=str(folder / "q"),
        train__steps=STEPS,
        optim__lr=1e-2,
        optim__warmup=0,
    )
    return config(folder, **{**settings, **changes})


@pytest.fixture(scope="module")
def whole(folder):
    """The run directory of a DPO run without a stop."""
    loop.train(tuned(folder, train__tensorboard=True), folder / "dpo")
    return folder / "dpo"


def test_its_metrics_are_recorded(whole):
    found = records(whole)
    assert found[0]["train/loss"] == pytest.approx(math.log(2), abs=1e-5)  # the policy is the reference
    assert found[0]["train/margin"] == pytest.approx(0, abs=1e-4)
    last = {name: value for record in found for name, value in record.items()}
    assert last["valid/loss"] < math.log(2) and last["valid/accuracy"] == 1
    for side in ("train", "valid"):
        for name in ("reward", "log_prob", "length"):
            assert {f"{side}/chosen_{name}", f"{side}/rejected_{name}"} <= last.keys()
    assert last["valid/margin"] == pytest.approx(last["valid/chosen_reward"] - last["valid/rejected_reward"], rel=1e-4)
    assert -60 < last["valid/chosen_log_prob"] < 0 and 4 <= last["valid/chosen_length"] <= 7
    (events,) = (path for path in (whole / "tensorboard").iterdir() if "tfevents" in path.name)
    assert b"valid/chosen_log_prob" in events.read_bytes() and b"train/accuracy" in events.read_bytes()


def test_log_probabilities_are_those_of_the_start(folder, whole):
    """Of every window of either side, by the whole logits."""
    settings = tuned(folder)
    data = open_data(settings, "pairs")
    kept = np.load(whole / reference.FILE)
    began = start.read(str(folder / "q"), settings.to_dict())
    params = layout.unstack(start.mapped(began, settings.model), 1)
    model = nnx.merge(gpt.graphdef(settings.model), params)
    for side in reference.SIDES:
        (windows,) = getattr(data, side).windows
        batch = windows.gather(np.arange(windows.count), np.zeros(windows.count, int))
        logits = np.asarray(model(batch["tokens"].reshape(-1, settings.model.context)), np.float64)
        logs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        wanted = np.take_along_axis(logs, batch["targets"].reshape(*logits.shape[:2], 1), -1)[..., 0]
        wanted = (wanted.reshape(batch["weights"].shape) * batch["weights"]).sum(-1)
        np.testing.assert_allclose(kept[f"{side}/0"], wanted, rtol=1e-5)


def test_a_run_that_was_stopped_and_moved_needs_its_parent_no_more(folder, whole):
    """It ends where an uninterrupted one does, bit for bit."""
    settings, hidden = tuned(folder), folder / "hidden"
    loop.train(settings, folder / "stopped", until=STOP)
    shutil.move(folder / "stopped", folder / "moved")
    shutil.move(folder / "q", hidden)
    try:
        loop.train(settings, folder / "moved")
        evaluate_run(settings, folder / "moved", None)
        with pytest.raises(UserError, match="there is no directory"):
            loop.train(settings, folder / "fresh")
    finally:
        shutil.move(hidden, folder / "q")
    assert records(folder / "moved") == records(whole)
    wanted = arrays(whole, STEPS)
    for path, value in arrays(folder / "moved", STEPS).items():
        assert np.array_equal(value, wanted[path]), path


def test_a_reference_is_read_by_a_backend_that_there_is(folder):
    """Not by that of its training, which only other devices may have."""
    found = start.read(str(folder / "q"), {})
    elsewhere = dataclasses.replace(found, model=dataclasses.replace(found.model, attend="cudnn"))
    settings = tuned(folder, tune__reference=str(folder / "q"))
    run = open_run(settings, folder / "read")
    once, again = (reference.attached(run, one, keep=False).data.train.fixed(8, 1)[0] for one in (found, elsewhere))
    np.testing.assert_array_equal(once[reference.COLUMN], again[reference.COLUMN])


def test_a_run_that_begins_anew_takes_the_reference_as_it_is_now(folder, capsys):
    settings = tuned(folder, tune__reference=str(folder / "parent"))
    shutil.copytree(folder / "q", folder / "parent")
    run = open_run(settings, folder / "anew")
    once = reference.attached(run, reference.read(run), keep=True)
    before = (folder / "anew" / reference.FILE).read_bytes()
    assert "log-probabilities of 40 examples" in capsys.readouterr().err
    again = reference.attached(run, reference.read(run), keep=True)
    assert again.data.fingerprint == once.data.fingerprint != run.data.fingerprint
    assert "log-probabilities" not in capsys.readouterr().err
    shutil.rmtree(folder / "parent")
    shutil.copytree(folder / "small", folder / "parent")  # of another width, which is its own
    other = reference.attached(run, reference.read(run), keep=True)
    assert other.data.fingerprint != once.data.fingerprint
    assert (folder / "anew" / reference.FILE).read_bytes() != before


def test_what_reads_text_reads_the_chosen_completions(folder, whole):
    """Interpretation, and studies of decoding."""
    run = open_run(tuned(folder), whole, form="text")
    batch = run.data.valid.fixed(2, 1)[0]
    assert batch["tokens"].shape == (2, 24) and batch["examples"].all()


@pytest.mark.parametrize("objective", ["dpo", "kto", "simpo", "lm"])
def test_a_plan_has_the_arrays_of_a_batch(folder, objective):
    """Without the log-probabilities being computed."""
    settings = tuned(folder, objective)
    found = plan.arrays_of(settings)
    batch = open_data(settings, objective_of(settings).form).train.fixed(8, 1)[0]
    if objective in ("dpo", "kto"):
        assert found.pop("reference") == ((8, 2), "float32")
    wanted = {name: (array.shape, str(array.dtype)) for name, array in batch.items() if name in found}
    assert found == wanted and {"tokens", "targets", "weights"} <= found.keys()


def test_a_plan_counts_both_texts_of_a_pair(folder, capsys):
    plan.print_plan(tuned(folder), None, "h100")
    run = open_run(tuned(folder), folder / "planned")
    assert run.tokens_per_step == 8 * 2 * 24
    assert f"tokens per step   {run.tokens_per_step:,} " in capsys.readouterr().out


def test_a_damaged_file_is_named(folder, whole, tmp_path):
    shutil.copytree(whole, tmp_path / "run")
    path = tmp_path / "run" / reference.FILE
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content[:-30])
    with pytest.raises(StorageError, match="reference.npz is damaged") as caught:
        reference.of_run(open_run(tuned(folder), tmp_path / "run"))
    assert "remove it" in caught.value.fix


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(tune__start=""), "measures against a model, and none is named"),
        (dict(model__dropout=0.1), "dropout would be part of the difference"),
        (dict(train__z_loss=1e-4), "dpo.* adds no z-loss"),
        (dict(tune__objective="kto"), "has no field 'completion'"),
        (dict(tune__objective="dpo(beta=0)"), "out of range"),
        (dict(tune__objective="dpo(smoothing=0.5)"), "out of range"),
        (dict(tune__reference="nowhere"), "there is no directory nowhere"),
    ],
)
def test_what_does_not_go_together_is_refused(folder, tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        loop.train(tuned(folder, **changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_reference_with_other_tokens_is_refused(folder, tmp_path):
    shutil.copytree(folder / "q", tmp_path / "other")
    (tmp_path / "other" / "tokenizer.json").write_text(subwords("the cat sat", 270).to_json())
    with pytest.raises(UserError, match="has other tokens than this run"):
        loop.train(tuned(folder, tune__reference=str(tmp_path / "other")), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_base_of_an_adapter_is_the_reference(folder, tmp_path, capsys):
    settings = tuned(folder, "kto", tune__adapter="lora(rank=2)", train__steps=2)
    loop.train(settings, tmp_path / "run")
    first = records(tmp_path / "run")[0]
    assert first["train/loss"] == pytest.approx(0.5, abs=1e-5)  # lambda / 2 where the policy is the reference
    assert first["train/drift"] == pytest.approx(0, abs=1e-4) and first["train/wanted_log_prob"] < 0
    evaluate_run(settings, tmp_path / "run", None)
    assert "wanted log prob" in capsys.readouterr().out
