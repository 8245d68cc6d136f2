"""Training from another run, or from a directory of Hugging Face's: what it begins with, carries and needs."""

import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.sharding import Mesh

import launch
from gpt_jax import configs
from gpt_jax.errors import StorageError, UserError
from gpt_jax.run_directory import read_tokenizer
from gpt_jax.study.sweep import population
from gpt_jax.train import loop
from gpt_jax.train.checkpoint import manifest
from gpt_jax.train.record.metrics import read, read_summary
from gpt_jax.train.starting import parameters, start
from tests.reliability.kill import arrays
from tests.train import tiny

STEPS, STOP = 6, 3
KNOBS = {
    "train.steps": STEPS,
    "train.batch": 4,
    "train.log_every": 1,
    "train.eval_every": 3,
    "train.eval_batches": 2,
    "train.save_every": 3,
    "train.tensorboard": False,
    "train.keep_best": False,
    "optim.warmup": 2,
    "optim.optimizer": "adamw",
    "sample.prompts": (),
    "mesh.data": 1,
}
STARTS = ("run", "huggingface")


@pytest.fixture(scope="module", autouse=True)
def one_device():
    """As a run of its own has, where the tests have eight."""
    found = jax.devices
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax, "device_count", lambda: 1)
        patch.setattr(jax, "devices", lambda *backend: found(*backend)[:1])
        yield


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    return tiny.write_text(tmp_path_factory.mktemp("text"))


@pytest.fixture(scope="module")
def starts(tmp_path_factory, text):
    """A trained run, and the same model as a directory of Hugging Face's."""
    folder = tmp_path_factory.mktemp("starts")
    model = {"model.layers": 1, "model.width": 16, "model.heads": 2, "model.context": 16, "model.vocab": 270}
    values = configs.load("base")
    values.data.update(source=f"text(path={str(text)!r})", tokenizer="bpe(vocab_size=262)", cache=str(text.parent))
    values.update_from_flattened_dict(KNOBS | model)
    loop.train(configs.settled(values), folder / "run")
    assert launch.main(["export", f"--workdir={folder / 'run'}", f"--to={folder / 'huggingface'}"]) == 0
    return folder


def settings(text, where, workdir=None, **changes):
    values = configs.load("tune:sft")
    values.data.update(source=f"text(path={str(text)!r})", cache=str(text.parent), pack="concat", template="plain")
    values.model.dropout = 0.0
    knobs = {"tune.start": str(where), **{key.replace("__", "."): value for key, value in changes.items()}}
    values.update_from_flattened_dict(KNOBS | knobs)
    return configs.settled(values, workdir)


def test_a_run_with_an_adapter_is_read_within_the_mesh_of_another(starts, text, tmp_path):
    loop.train(settings(text, starts / "run", tune__adapter="lora(rank=2)"), tmp_path / "lora")
    config = configs.settled(configs.of_run(tmp_path / "lora"))
    _, wanted = parameters.of_run(config, tmp_path / "lora", None)
    devices = np.array(jax.local_devices(backend="cpu")[:2])
    with jax.set_mesh(Mesh(devices, ("data",))):
        _, found = parameters.of_run(config, tmp_path / "lora", None)
    assert len(devices) == 2 and found.keys() == wanted.keys()
    assert all(np.array_equal(found[path], wanted[path]) for path in wanted)


def numbers(workdir):
    rows = [{k: v for k, v in row.items() if k != "time" and not k.startswith("speed/")} for row in read(workdir)]
    return [row for row in rows if len(row) > 2]


def meta(workdir, step=STEPS):
    return json.loads((workdir / "checkpoints" / str(step) / manifest.NAME).read_text())["meta"]


@pytest.fixture(scope="module", params=STARTS)
def tuned(request, starts, text, tmp_path_factory):
    """A run from a start, the same one stopped and resumed when its start is gone and it has been moved, and the start."""
    folder, kept = tmp_path_factory.mktemp(request.param), starts / request.param
    where = folder / "start"
    shutil.copytree(kept, where)
    loop.train(settings(text, where, folder / "whole"), folder / "whole")
    loop.train(settings(text, where, folder / "cut"), folder / "cut", until=STOP)
    shutil.rmtree(where)
    (folder / "cut").rename(folder / "moved")
    loop.train(settings(text, where, folder / "moved"), folder / "moved")
    return folder, kept


def test_resumed_without_its_start_it_is_the_run_it_would_have_been(tuned):
    folder, _ = tuned
    assert numbers(folder / "moved") == numbers(folder / "whole")
    wanted = arrays(folder / "whole", STEPS)
    for path, value in arrays(folder / "moved", STEPS).items():
        assert np.array_equal(value, wanted[path]), path


def test_it_begins_where_the_start_ended(tuned, starts):
    """The first loss is the start's, and far below that of fresh parameters."""
    folder, _ = tuned
    first, last = numbers(folder / "whole")[0]["train/loss"], numbers(starts / "run")[-1]
    assert first == pytest.approx(last["valid/loss"], rel=0.05)
    assert numbers(starts / "run")[0]["train/loss"] > first + 0.05
    assert numbers(folder / "whole")[0]["step"] == 1 and read_summary(folder / "whole")["steps"] == STEPS


def test_the_parent_stands_in_every_checkpoint(tuned):
    folder, kept = tuned
    found = start.read(str(kept), settings_of(folder / "whole"))
    for workdir, step in (("whole", STOP), ("whole", STEPS), ("moved", STEPS)):
        assert meta(folder / workdir, step)["parent"] == {**found.parent, "start": str(folder / "start")}
    assert found.step == (0 if kept.name == "huggingface" else STEPS) and len(found.digest) == 64
    assert read_summary(folder / "whole")["parent"]["digest"] == found.digest
    environment = json.loads((folder / "moved" / "environment.json").read_text())
    assert [entry["parent"]["digest"] for entry in environment["starts"]] == [found.digest] * 2


def settings_of(workdir):
    return configs.of_run(workdir).to_dict()


def test_the_tokenizer_travels(tuned, starts):
    folder, kept = tuned
    stored = json.loads((folder / "moved" / "config.json").read_text())
    assert stored["data"]["tokenizer"] == "run(path='{run}')"
    assert str(folder) not in json.dumps({**stored, "tune": None})
    own = json.loads((folder / "moved" / "tokenizer.json").read_text())
    theirs = json.loads((starts / "run" / "tokenizer.json").read_text())
    assert own["separator"] == theirs["separator"] and json.loads(own["spec"]) == json.loads(theirs["spec"])
    assert ("opens" in own) == (kept.name == "huggingface")


def test_an_export_is_of_the_same_family(tuned, tmp_path):
    folder, kept = tuned
    assert launch.main(["export", f"--workdir={folder / 'moved'}", f"--to={tmp_path / 'out'}"]) == 0
    assert json.loads((tmp_path / "out" / "config.json").read_text())["model_type"] == "gpt2"
    assert (folder / "moved" / "huggingface").is_dir() == (kept.name == "huggingface")
    if kept.name == "huggingface":
        for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
            assert (tmp_path / "out" / name).read_bytes() == (kept / name).read_bytes()


def test_a_run_from_a_tuned_one(tuned, text, tmp_path, capfd):
    """What the first start carried is carried on; a step can be named, and the context may grow, which is said."""
    folder, kept = tuned
    where = folder / "moved" / "checkpoints" / str(STOP)
    given = {"train__steps": 2, "model__context": 20, "data__template": "chatml"}
    loop.train(settings(text, where, **given), tmp_path / "next", until=1)
    said = [line.split(maxsplit=1)[1] for line in capfd.readouterr().err.splitlines() if line.startswith("start ")]
    assert said == [
        f"the parameters of {where}, step {STOP}",
        "model.vocab: 270 -> 270; 2 new rows are the mean of the others and a little noise",
        "model.context: 16 -> 20; positions from 16 on begin untrained",
    ]
    assert meta(tmp_path / "next", 1)["parent"]["step"] == STOP
    assert (tmp_path / "next" / "huggingface").is_dir() == (kept.name == "huggingface")
    before, after = arrays(folder / "moved", STEPS), arrays(tmp_path / "next", 1)
    table = "params/embed/position/w"
    assert after[table].shape[0] == 20 and before[table].shape[0] == 16
    # With the tokens of the template its own tokenizer is not extended again.
    loop.train(settings(text, where, tmp_path / "next", **given), tmp_path / "next")
    assert json.loads((tmp_path / "next" / "config.json").read_text())["model"]["vocab"] == 270
    assert read_tokenizer(tmp_path / "next").vocab == 264


def test_other_values_of_the_start_are_refused_on_resuming(tuned, starts, text):
    folder, kept = tuned
    other = next(name for name in STARTS if name != kept.name)
    with pytest.raises(UserError, match=r"tune\.start: .* -> "):
        loop.train(settings(text, starts / other, folder / "moved"), folder / "moved")


def test_the_settings_of_a_sweep_resume_too(starts, text, tmp_path):
    """They name the tokenizer in the start, where config.json has the run's own."""
    given = settings(text, starts / "huggingface")
    loop.train(given, tmp_path / "x", until=STOP)
    assert loop.train(given, tmp_path / "x")["steps"] == STEPS


def test_runs_trained_together(starts, text, tmp_path):
    given = [settings(text, starts / "run", train__seed=seed, optim__lr=lr) for seed, lr in ((0, 1e-3), (1, 1e-2))]
    jobs = [(config, tmp_path / str(i)) for i, config in enumerate(given)]
    assert population.train(jobs, 0) == [None, None]
    last = numbers(starts / "run")[-1]["valid/loss"]
    for _, workdir in jobs:
        assert numbers(workdir)[0]["train/loss"] == pytest.approx(last, rel=0.05)
        assert meta(workdir)["parent"]["step"] == STEPS
    assert numbers(jobs[0][1])[-1]["valid/loss"] != numbers(jobs[1][1])[-1]["valid/loss"]


BAD = {
    "the run itself": ({}, "this run began with other settings: .*tune.start"),
    "another tokenizer": ({"data__tokenizer": "bytes"}, "the tokenizer is another than that of"),
    "a wider model": ({"model__width": 32}, "model.width is 16"),
    "another mlp": ({"model__mlp": "swiglu"}, "no values to begin with"),
}


def test_a_directory_that_is_its_own_start(starts, text):
    """A model of Hugging Face's is no run that could be resumed."""
    with pytest.raises(UserError, match="is the run directory itself"):
        loop.train(settings(text, starts / "huggingface"), starts / "huggingface")


@pytest.mark.parametrize("name", BAD)
def test_what_is_refused_writes_nothing(name, starts, text, tmp_path):
    changes, what = BAD[name]
    workdir = starts / "run" if name == "the run itself" else tmp_path / "x"
    before = sorted(workdir.rglob("*"))
    with pytest.raises(UserError, match=what):
        loop.train(settings(text, starts / "run", **changes), workdir)
    assert sorted(workdir.rglob("*")) == before


def test_a_damaged_start(starts, text, tmp_path):
    shutil.copytree(starts / "run", tmp_path / "q")
    array = max((tmp_path / "q" / "checkpoints" / str(STEPS)).rglob("*"), key=lambda path: path.stat().st_size)
    array.write_bytes(array.read_bytes()[:-1] + b"?")
    with pytest.raises(StorageError, match="damaged"):
        loop.train(settings(text, f"{tmp_path / 'q'}@{STEPS}"), tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_a_tokenizer_with_further_tokens(starts):
    """It is the same for the tokens that there were."""
    found = start.read(str(starts / "run"), settings_of(starts / "run"))
    spec = json.loads(json.loads(Path(starts / "run" / "tokenizer.json").read_text())["spec"])
    token = {**spec["added_tokens"][0], "id": 262, "content": "<|user|>"}
    more = tokenizer({**spec, "added_tokens": [*spec["added_tokens"], token]})
    start.check_tokenizer(found, more)
    merged = {**spec["model"], "vocab": {**spec["model"]["vocab"]}}
    first, second = list(merged["vocab"])[5:7]
    merged["vocab"][first], merged["vocab"][second] = merged["vocab"][second], merged["vocab"][first]
    with pytest.raises(UserError, match="id .* stands for something else"):
        start.check_tokenizer(found, tokenizer({**spec, "model": merged}))


def tokenizer(spec):
    from gpt_jax.data.tokenizers.file import Subwords

    return Subwords(json.dumps(spec), "<|endoftext|>", "test")
