"""Knobs with the value "start", and where starts are."""

import json

import pytest

import launch
from gpt_jax import configs
from gpt_jax.commands.flags import Flags
from gpt_jax.commands.train import Train
from gpt_jax.errors import UserError
from gpt_jax.run_directory import config_json, read_config
from gpt_jax.train.starting import places
from tests.train import tiny


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run directory without tensors, with checkpoints of two steps by name."""
    folder = tmp_path_factory.mktemp("starts") / "q"
    for step in (5, 10):
        (folder / "checkpoints" / str(step)).mkdir(parents=True)
    made = tiny.config(model__position="rope", model__attention=("full", "sliding(window=4)"), model__layers=2)
    (folder / "config.json").write_text(config_json(made, folder))
    (folder / "tokenizer.json").write_text(json.dumps({"kind": "bytes"}))
    return folder


def settings(*flags):
    declared = Flags("train")
    Train().define(declared)
    return declared.parse(["--config=tune:sft", "--workdir=/nowhere/x", *flags]).config


def test_every_knob_of_the_model_is_as_in_the_start(run):
    found = configs.settled(settings(f"--config.tune.start={run}"))
    own = dict(model__dropout=0.1)  # the preset's
    made = tiny.config(model__position="rope", model__attention=("full", "sliding(window=4)"), model__layers=2, **own)
    assert found.model == made.model
    assert found.data.tokenizer == f"run(path={str(run)!r})"


def test_flags_change_what_is_as_in_the_start(run):
    given = {"context": 256, "tied": False, "position": "rope(theta=100.0)", "bias": ("mlp",), "dropout": 0.5}
    flags = [f"--config.model.{key}={value}" for key, value in given.items()]
    found = configs.settled(settings(f"--config.tune.start={run}@5", *flags, "--config.data.tokenizer=bytes"))
    assert {key: getattr(found.model, key) for key in given} == given
    assert found.data.tokenizer == "bytes" and found.model.width == 16


def test_a_run_that_has_begun_keeps_what_it_has(run, tmp_path):
    (tmp_path / "config.json").write_text((run / "config.json").read_text().replace('"width": 16', '"width": 32'))
    found = configs.settled(settings("--config.tune.start=/nowhere/q"), tmp_path)
    assert found.model.width == 32


def test_a_run_carries_the_tokenizer_of_its_start(run, tmp_path):
    """Its config.json says so wherever the run is moved to."""
    made = configs.settled(settings(f"--config.tune.start={run}"))
    text = config_json(made, tmp_path)
    assert json.loads(text)["data"]["tokenizer"] == "run(path='{run}')"
    (tmp_path / "config.json").write_text(text)
    assert read_config(tmp_path)["data"]["tokenizer"] == f"run(path={str(tmp_path)!r})"
    assert configs.settled(settings("--config.tune.start=/nowhere"), tmp_path).data.tokenizer.count(str(tmp_path)) == 1


def test_without_a_start_the_knobs_are_named():
    with pytest.raises(UserError) as caught:
        configs.settled(settings("--config.model.vocab=7"))
    assert "model.layers" in caught.value.what and "model.vocab" not in caught.value.what
    assert "data.tokenizer" in caught.value.what and caught.value.where == "config.tune.start"


@pytest.mark.parametrize("named", ["{}", "{}@10", "{}/checkpoints/10", "{}/checkpoints/5/"])
def test_places(run, named):
    found = places.find(named.format(run))
    assert found.path == run and found.step in (None, 5, 10) and not found.pretrained
    assert (found.step is None) == (named == "{}")


BAD = {
    "gpt2": "hf download",
    "meta-llama/Llama-3.1-8B": "hf download",
    "https://huggingface.co/gpt2": "is an address",
    "gs://bucket/run": "is an address",
    "/nowhere/q": "there is no directory /nowhere/q",
    "/nowhere/q@7": "there is no directory /nowhere/q",
    "{}@7": "there is no checkpoint of step 7",
    "{}/checkpoints/7": "there is no checkpoint of step 7",
    "{}/checkpoints": "is no model",
}


@pytest.mark.parametrize("named", BAD)
def test_bad_starts(run, named, tmp_path, capfd):
    workdir = tmp_path / "x"
    flags = [f"--config.tune.start={named.format(run)}", f"--workdir={workdir}"]
    assert launch.main(["train", "--config=tune:sft", *flags]) == 2
    said = capfd.readouterr().err
    assert BAD[named] in said and "Traceback" not in said and not workdir.exists()


def test_a_run_without_checkpoints(run, tmp_path):
    (tmp_path / "config.json").write_text((run / "config.json").read_text())
    with pytest.raises(UserError, match="there is no checkpoint"):
        places.find(str(tmp_path))


def test_a_start_with_a_step_in_its_name(run, tmp_path):
    (tmp_path / "a@5").symlink_to(run)
    assert places.find(str(tmp_path / "a@5")).step is None
