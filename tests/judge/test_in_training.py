"""Tasks during training: what they write, that they change nothing, and that a sweep can compare arms by them."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from gpt_jax import api
from gpt_jax.configs import base
from gpt_jax.errors import UserError
from gpt_jax.judge import evaluate
from gpt_jax.judge.opened import open_tasks
from gpt_jax.judge.prompting import Judged
from gpt_jax.sample.decode import Decoder
from gpt_jax.study.sweep import sweep as sweeps
from gpt_jax.study.sweep.sweep import Sweep
from gpt_jax.train.record.metrics import read
from tests.train import tiny

SUMS = "arithmetic(count=200, valid=50, digits=1, operations='+')"
TASKS = ("arithmetic(problems=8)", "arithmetic(problems=4, shots=2, metrics=('exact',))")
FIGURES = {"valid/arithmetic/correct", "valid/arithmetic_2/correct", "valid/arithmetic_2/exact"}
KNOBS = {**tiny.KNOBS, "model.context": 32, "data.source": SUMS, "train.steps": 4, "sample.prompts": ()}
KNOBS |= {"train.eval_every": 2, "train.save_every": 2, "train.keep": 4, "train.batch": 8}


def settings(folder, **changes):
    c = base.get_config()
    c.update_from_flattened_dict(KNOBS | {"data.cache": str(folder / "cache")} | changes)
    return c


def figures(workdir):
    return {r["step"]: {n: v for n, v in r.items() if n in FIGURES} for r in read(workdir) if "valid/loss" in r}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    api.train(settings(folder, **{"eval.tasks": TASKS}), folder / "whole")
    api.train(settings(folder), folder / "without")
    return folder


def test_each_evaluation_has_the_figures_of_every_task(trained):
    found = figures(trained / "whole")
    assert list(found) == [2, 4] and all(set(values) == FIGURES for values in found.values())
    assert FIGURES <= json.loads((trained / "whole/summary.json").read_text())["final"].keys()


def test_they_are_those_of_the_saved_model(trained):
    model = api.load(trained / "whole", 2)
    judged = Judged.of(model.config, Decoder(model.config.model, model.params), model.tokenizer)
    for task in open_tasks(TASKS, model.config):
        for name, value in evaluate.values(task, evaluate.answers(task, judged)).items():
            assert figures(trained / "whole")[2][f"valid/{task.name}/{name}"] == value


def test_training_is_what_it_is_without_them(trained):
    """The same program of the step, and the same parameters to the last bit."""
    whole, without = (api.load(trained / name).params for name in ("whole", "without"))
    jax.tree.map(np.testing.assert_array_equal, whole, without)
    losses = [[r["train/loss"] for r in read(trained / name) if "train/loss" in r] for name in ("whole", "without")]
    assert losses[0] == losses[1]
    config = api.load(trained / "whole").config
    bare = dataclasses.replace(config, eval=dataclasses.replace(config.eval, tasks=()))
    assert config.eval.tasks == TASKS
    texts = [_step_of(c) for c in (config, bare)]
    assert texts[0] == texts[1]


def _step_of(config):
    made = tiny.program(config)
    batch = tiny.batches(1, context=config.model.context, vocab=200)[0]
    return made.step.lower(made.live, batch, tiny.hyper_scalars(config)).as_text()


def test_a_run_that_is_stopped_ends_where_an_uninterrupted_one_does(tmp_path):
    flags = {key.replace(".", "__"): value for key, value in KNOBS.items() if key not in tiny.KNOBS}
    flags |= {"model__context": 32, "train__steps": 4, "eval__tasks": TASKS, "sample__prompts": "()"}
    flags |= {"data__source": SUMS, "train__batch": 4}
    stopped, whole = (tiny.command(tmp_path / "text.txt", tmp_path / name, **flags) for name in ("stopped", "whole"))
    found = tiny.launch((whole, 0), (stopped, 2), (stopped, 0))
    assert [code for code, _ in found] == [0, 75, 0], found
    assert list(figures(tmp_path / "whole")) == [2, 4]
    assert figures(tmp_path / "stopped") == figures(tmp_path / "whole")
    ours, theirs = (api.load(tmp_path / name).params for name in ("stopped", "whole"))
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def test_a_sweep_compares_arms_by_a_task(tmp_path):
    c = settings(tmp_path, **{"eval.tasks": TASKS, "train.steps": 2})
    arms = {"slow": {"optim.lr": 1e-4}, "fast": {"optim.lr": 1e-2}}
    found = api.sweep(Sweep(c, arms, seeds=(0,), metric="valid/arithmetic/correct"), tmp_path / "sweep", jobs=1)
    assert not found.lower_is_better
    values = found.values()
    assert {arm: set(row) for arm, row in values.items()} == {"slow": {0}, "fast": {0}}
    assert all(0 <= value <= 1 for row in values.values() for value in row.values())
    assert "valid/arithmetic/correct" in found.verdicts()


def test_which_way_a_figure_is_better():
    tasks = ("which_package", "arithmetic")
    assert evaluate.lower_is_better(tasks, "which_package", "calibration_error") is True
    assert evaluate.lower_is_better(tasks, "which_package", "f1/json") is False
    assert evaluate.lower_is_better(tasks, "arithmetic", "correct") is False
    assert evaluate.lower_is_better(tasks, "dialogue", "exact") is None


def test_arms_that_are_asked_other_problems_are_not_compared(tmp_path):
    c = settings(tmp_path, **{"eval.tasks": ("arithmetic(problems=8)",)})
    arms = {"a": {}, "b": {"eval.tasks": ("arithmetic(problems=4)",)}}
    with pytest.raises(UserError, match=r"eval\.tasks cannot be compared"):
        sweeps.jobs(Sweep(c, arms, seeds=(0,), metric="valid/arithmetic/correct"))
    assert sweeps.jobs(Sweep(c, arms, seeds=(0,), metric="valid/loss"))


@pytest.mark.parametrize(
    "changes, what",
    [
        ({"eval.tasks": ("arithmetics",)}, "no judge.tasks called"),
        ({"eval.tasks": ("arithmetic(shots='many')",)}, "shots"),
        ({"eval.tasks": ("arithmetic(shots=30)",)}, "do not fit"),
        (
            {"eval.tasks": ("arithmetic",), "data.source": "copy()", "data.tokenizer": "none"},
            "tokens of this run are none",
        ),
    ],
)
def test_tasks_that_cannot_be_asked_are_refused_before_anything_is_written(changes, what, tmp_path):
    with pytest.raises(UserError, match=what):
        api.train(settings(tmp_path, **changes), tmp_path / "run")
    assert not (tmp_path / "run" / "config.json").exists()
