"""Runs that train a head, or learn from a teacher, from their rows to their summary; stopped and resumed to the bit."""

import contextlib
import dataclasses
import io
import json
import shutil

import jax
import numpy as np
import pytest

from gpt_jax import api, main
from gpt_jax.errors import UserError
from gpt_jax.study.sweep.population import common_settings
from gpt_jax.train import loop
from gpt_jax.train.checkpoint import manifest
from gpt_jax.train.record import metrics
from gpt_jax.train.run import open_run
from gpt_jax.train.starting.fixed_models import TEACHER
from tests.train import tiny

STEPS = 12
FAST = dict(train__batch=8, train__steps=STEPS, train__eval_every=4, train__save_every=4, train__keep=9, optim__lr=3e-2)


def rows_of(path, rows) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return f"jsonl(path={str(path)!r})"


def config(folder, source: str, objective: str, **changes):
    own = dict(data__source=source, data__cache=str(folder / "cache"), tune__objective=objective, model__vocab=0)
    return tiny.config(**{**FAST, **own, "data__valid_fraction": 0.3, **changes})


def run(config, folder, until: int = 0) -> tuple[dict, str]:
    """The summary, and what was printed."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        summary = loop.train(config, folder, until)
    return summary, said.getvalue()


def assert_resumes(config, whole, folder) -> None:
    """A run that is stopped in between ends where ``whole`` did: records and checkpoint."""
    run(config, folder, until=4)
    run(config, folder)
    records = [[{**r, "time": 0} for r in metrics.read(place)] for place in (whole, folder)]
    for a, b in zip(*records, strict=True):
        assert {k: v for k, v in a.items() if "speed" not in k} == {k: v for k, v in b.items() if "speed" not in k}
    states = [open_run(config, place).load()[1] for place in (whole, folder)]
    same = jax.tree.map(lambda a, b: bool((np.asarray(a) == np.asarray(b)).all()), *states)
    assert jax.tree.all(same)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("heads")


@pytest.fixture(scope="module")
def texts(folder):
    rows = [{"text": f"{'xyz'[i % 3] * 5} {i}", "class": ("red", "green", "blue")[i % 3]} for i in range(90)]
    return rows_of(folder / "texts.jsonl", rows)


@pytest.fixture(scope="module")
def classifier(folder, texts):
    """A finished run, what it printed, and its configuration."""
    settings = config(folder, texts, "classify(classes=('red', 'green', 'blue'))", sample__prompts=("a",))
    summary, said = run(settings, folder / "classify")
    return settings, summary, said


def test_a_classifier_learns_and_its_best_checkpoint_is_the_most_accurate(folder, classifier):
    settings, summary, said = classifier
    records = [r for r in metrics.read(folder / "classify") if "valid/accuracy" in r]
    best = max(records, key=lambda r: r["valid/accuracy"])
    assert summary["best_by"] == "valid/accuracy" and summary["best"]["step"] == best["step"]
    assert best["valid/accuracy"] > 0.6 and {"valid/macro_f1", "valid/micro_recall", "valid/f1/green"} <= set(best)
    assert "valid/perplexity" not in best
    for record in records:
        listed = manifest.read(folder / "classify" / "checkpoints" / str(record["step"]))
        assert listed.valid_loss == -record["valid/accuracy"]
    assert f"{summary['final']['valid/accuracy']:.4f} accuracy" in said and "nats/example" in said
    assert "samples          none" in said and not (folder / "classify" / "samples").exists()
    assert (folder / "classify" / "figures" / "loss.png").exists()


def test_a_classifier_resumes_to_the_bit(folder, classifier):
    assert_resumes(classifier[0], folder / "classify", folder / "classify again")


def test_a_classifier_is_asked_from_python(folder, classifier):
    head = api.load(folder / "classify").head
    (found,) = head.classify("yyyyy 4")
    assert list(found) == ["red", "green", "blue"] and sum(found.values()) == pytest.approx(1, abs=1e-5)
    together = head.classify(*["xxxxx 1", "yyyyy 4"] * 6)  # more than are read at once
    assert [together[i] for i in (1, 3, 11)] == [found] * 3
    with pytest.raises(UserError, match="classify"):
        head.reward("a", "b")


def test_eval_prints_the_metrics_of_the_objective(folder, classifier):
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        assert main.main(["eval", f"--workdir={folder / 'classify'}"]) == 0
    assert "nats/example" in said.getvalue() and "macro f1" in said.getvalue() and "perplexity" not in said.getvalue()


def test_sampling_says_that_a_head_was_trained(folder, classifier):
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        flags = ["--prompt=a", "--sample.max_new_tokens=2"]
        assert main.main(["sample", f"--workdir={folder / 'classify'}", *flags]) == 0
    assert "trained a head" in said.getvalue()


def test_a_class_beyond_those_there_are_is_refused_before_anything_is_written(folder):
    source = rows_of(folder / "bad.jsonl", [{"text": f"t{i}", "class": i} for i in range(12)])
    with pytest.raises(UserError, match="bad.jsonl.* has the class"):
        run(config(folder, source, "classify(classes=4)"), folder / "refused")
    assert not (folder / "refused").exists()


@pytest.fixture(scope="module")
def rewarder(folder):
    draw = np.random.default_rng(0)
    words = ["".join(draw.choice(list("abcdef"), size=3)) for _ in range(60)]
    rows = [{"prompt": word, "chosen": f" {word}!", "rejected": f" {word}?"} for word in words]
    settings = config(folder, rows_of(folder / "pairs.jsonl", rows), "reward")
    return settings, run(settings, folder / "reward")[0]


def test_a_reward_model_learns_and_is_asked_from_python(folder, rewarder):
    settings, summary = rewarder
    final = summary["final"]
    assert final["valid/accuracy"] > 0.8 and final["valid/margin"] > 0
    assert final["valid/margin"] == pytest.approx(
        final["valid/chosen_reward"] - final["valid/rejected_reward"], abs=1e-4
    )
    assert "train/accuracy" in final and "valid/lm_loss" not in final
    model = api.load(folder / "reward")
    good, bad = model.head.reward("abc", " abc!", " abc?")
    assert good > bad and model.head.reward("abc", " abc!")[0] == pytest.approx(good, abs=1e-5)
    with pytest.raises(UserError, match="up to 16"):
        model.head.reward("abc", "a" * 40)


def test_a_reward_model_resumes_to_the_bit(folder, rewarder):
    assert_resumes(rewarder[0], folder / "reward", folder / "reward again")


def test_a_reward_model_has_no_dropout(folder, rewarder):
    settings = rewarder[0]
    dropped = dataclasses.replace(settings, model=dataclasses.replace(settings.model, dropout=0.1))
    with pytest.raises(UserError, match="dropout"):
        open_run(dropped, folder / "refused")


@pytest.fixture(scope="module")
def text(folder):
    return f"text(path={str(tiny.write_text(folder))!r})"


@pytest.fixture(scope="module")
def taught(folder, text):
    """A teacher, and a student of it with padding in its vocabulary: their configurations, and the student's summary."""
    teacher = config(folder, text, "lm", model__width=32)
    run(teacher, folder / "teacher")
    call = f"distill(teacher={str(folder / 'teacher')!r}, alpha=0.75, beta=0.5, temperature=2.0)"
    student = config(folder, text, call, model__vocab=264)
    return teacher, student, run(student, folder / "student")[0]


@pytest.mark.slow
def test_a_student_comes_nearer_to_its_teacher(folder, taught):
    _, _, summary = taught
    records = [r for r in metrics.read(folder / "student") if "valid/divergence" in r]
    assert records[-1]["valid/divergence"] < records[0]["valid/divergence"] / 2
    last = records[-1]
    assert last["valid/objective"] == pytest.approx(0.75 * 4 * last["valid/divergence"] + 0.25 * last["valid/loss"])
    assert (
        last["valid/perplexity"] == pytest.approx(np.exp(last["valid/loss"]))
        and summary["best_by"] == "valid/objective"
    )


def test_a_student_resumes_to_the_bit(folder, taught):
    assert_resumes(taught[1], folder / "student", folder / "student again")


def test_a_student_keeps_the_teacher_that_it_began_with(folder, taught):
    """The teacher is trained on while the student is stopped."""
    _, student, _ = taught
    place, last = folder / "student of a younger one", folder / "teacher" / "checkpoints" / str(STEPS)
    last.rename(folder / "later")
    run(student, place, until=4)
    (folder / "later").rename(last)
    known = json.loads((place / TEACHER.file).read_text())
    assert known["step"] == 8
    run(student, place)
    assert json.loads((place / TEACHER.file).read_text()) == known
    (place / TEACHER.file).write_text(json.dumps({**known, "digest": "0"}))
    with pytest.raises(UserError, match="not the one"):
        run(student, place)


def test_what_cannot_teach_is_refused_before_anything_is_written(folder, text, taught):
    for changes, said in (
        ({"data__tokenizer": "chars"}, "other tokens"),
        ({"model__context": 32}, "reads 16 tokens"),
    ):
        settings = config(folder, text, f"distill(teacher={str(folder / 'teacher')!r})", **changes)
        with pytest.raises(UserError, match=said):
            run(settings, folder / "refused")
    with pytest.raises(UserError, match="no directory"):
        run(config(folder, text, "distill(teacher='nowhere')"), folder / "refused")
    assert not (folder / "refused").exists()


def test_a_student_is_read_without_its_teacher(folder, taught):
    shutil.copytree(folder / "student", folder / "alone")
    values = json.loads((folder / "alone" / "config.json").read_text())
    values["tune"]["objective"] = "distill(teacher='gone')"
    (folder / "alone" / "config.json").write_text(json.dumps(values))
    assert api.load(folder / "alone").logits("the").shape[-1] == 264


def test_a_student_is_no_member_of_a_population(taught):
    teacher, student, _ = taught
    assert common_settings(teacher) and not common_settings(student)
