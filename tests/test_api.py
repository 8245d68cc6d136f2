"""The Python front door says what the commands and the model itself say."""

import dataclasses
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import gpt_jax
import launch
from gpt_jax import api, configs
from gpt_jax.config import Config
from gpt_jax.convert import exporting
from gpt_jax.errors import UserError
from gpt_jax.train.record.metrics import read_summary
from gpt_jax.train.run import open_run, to_read
from tests import xla
from tests.train import tiny

ROOT = Path(__file__).resolve().parents[1]
TEXT = "the cat sat on"
SIZES = {"model.layers": 2, "model.width": 16, "model.heads": 2, "model.context": 32}
KNOBS = {name: value for name, value in tiny.KNOBS.items() if not name.startswith("sample.")} | SIZES
KNOBS |= {"train.batch": 8, "train.steps": 4, "sample.prompts": (), "optim.lr": 1e-2}


@pytest.fixture(scope="module")
def settings(tmp_path_factory) -> dict:
    folder = tmp_path_factory.mktemp("text")
    return KNOBS | {"data.source": f"text(path={str(tiny.write_text(folder))!r})", "data.cache": str(folder / "cache")}


@pytest.fixture(scope="module")
def workdir(settings, tmp_path_factory) -> Path:
    """A run that the front door trained, whose data are gone."""
    workdir = tmp_path_factory.mktemp("runs") / "q"
    summary = gpt_jax.train("base", workdir, settings, **{"optim.lr": 2e-2})
    assert summary == read_summary(workdir) and summary["steps"] == 4 and summary["status"] == "done"
    return workdir


@pytest.fixture(scope="module")
def model(workdir) -> api.Model:
    return gpt_jax.load(workdir)


def test_training_by_name_is_training_by_command(settings, workdir, tmp_path):
    """And by a ConfigDict or a Config, with knobs by keyword or mapping."""
    stored = Config.from_dict(configs.of_run(workdir))
    assert stored.optim.lr == 2e-2 and stored.model.width == 16
    again = gpt_jax.train(stored, tmp_path / "again")
    assert again["final"]["valid/loss"] == read_summary(workdir)["final"]["valid/loss"]
    flags = [f"--config.{knob}={value}" for knob, value in (settings | {"optim.lr": 2e-2}).items()]
    assert launch.main(["train", "--config=base", f"--workdir={tmp_path / 'command'}", *flags]) == 0
    assert read_summary(tmp_path / "command")["final"]["valid/loss"] == again["final"]["valid/loss"]
    with pytest.raises(UserError, match="optim.rl"):
        gpt_jax.train("base", tmp_path / "wrong", **{"optim.rl": 1})
    with pytest.raises(UserError, match="no preset"):
        gpt_jax.train("quickstrat", tmp_path / "wrong")


def test_a_summary_shows_itself(settings, workdir):
    shown = gpt_jax.train("base", workdir, settings, **{"optim.lr": 2e-2})._repr_html_()
    assert "validation loss" in shown and "data:image/png" in shown


def test_a_model_says_what_it_is(model, workdir):
    said = repr(model)
    count = sum(leaf.size for leaf in jax.tree.leaves(model.params))
    assert f"{count / 1000:.2f}"[:3] in said
    for part in ("'q'", "2 layers", "width 16", "context 32", "step 4", "257 ids", str(workdir)):
        assert part in said
    assert model.step == 4


def test_logits_are_the_models(model):
    ids = np.frombuffer(TEXT.encode(), np.uint8).astype(int)
    logits = model.logits(TEXT)
    assert logits.shape == (len(ids), 257) and logits.dtype == np.float32
    np.testing.assert_array_equal(logits, model.logits(ids))
    batch = model.logits([ids.tolist(), ids[::-1].tolist()])
    assert batch.shape == (2, len(ids), 257)
    np.testing.assert_allclose(batch[0], logits, atol=1e-5)
    streams = model.streams(TEXT)
    assert streams.shape == (3, len(ids), 16) and model.streams([ids, ids]).shape == (3, 2, len(ids), 16)


def test_losses_are_those_of_evaluation(model, settings, workdir, capsys):
    run = open_run(to_read(model.config), workdir)
    batch = run.data.valid.fixed(8, 1)[0]
    ids = np.concatenate([batch["tokens"], batch["targets"][:, -1:]], axis=1)
    losses = model.loss(ids)
    assert losses.shape == (8, 32) and model.loss(TEXT).shape == (len(TEXT) - 1,)
    command = ["eval", f"--workdir={workdir}", "--config.eval.batch=8", "--config.eval.batches=1"]
    command += ["--config.mesh.fsdp=16"]  # as if it had been trained on more devices than there are
    assert launch.main(command) == 0
    said = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("loss"))
    assert float(said.split()[1]) == pytest.approx(float(losses.mean()), abs=2e-6)
    from_logits = jax.nn.log_softmax(model.logits(TEXT))[np.arange(len(TEXT) - 1), list(TEXT.encode())[1:]]
    np.testing.assert_allclose(model.loss(TEXT), -from_logits, atol=1e-5)


def test_texts_are_those_of_the_command(model, workdir, tmp_path, capsys):
    knobs = {"temperature": 0.7, "top_k": 20, "seed": 5, "max_new_tokens": 9}
    flags = [f"--sample.{name}={value}" for name, value in knobs.items()]
    assert launch.main(["sample", f"--workdir={workdir}", f"--prompt={TEXT}", *flags]) == 0
    written = model.generate(TEXT, **knobs)
    assert capsys.readouterr().out == f"{written}\n" and len(written.ids) == len(written.logprobs) == 9
    (tmp_path / "p.jsonl").write_text('{"prompt": "a"}\n{"ids": [5, 6, 7]}\n')
    command = ["sample", f"--workdir={workdir}", f"--prompts={tmp_path / 'p.jsonl'}", "--output=jsonl", *flags]
    assert launch.main(command) == 0
    several = model.generate(["a", [5, 6, 7]], **knobs)
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert several.ids == [row["ids"] for row in rows] and several.text == [row["text"] for row in rows]
    assert several.logprobs == [row["logprobs"] for row in rows]
    assert model.generate(jax.numpy.array([5, 6, 7]), **knobs | {"seed": 6}).ids == several.ids[1]
    assert "<table>" in several._repr_html_() and "9 new tokens" in repr(written)


def test_samples_and_what_is_reported_of_them(model, workdir, tmp_path, capsys, monkeypatch):
    """From Python, by the command, and typed at the terminal."""
    knobs = {
        "max_new_tokens": 6,
        "num_return_sequences": 2,
        "stop_strings": "e",
        "logprobs": 2,
        "prompt_logprobs": True,
    }
    rows = model.generate(TEXT, **knobs)
    assert len(rows) == 2 and set(rows.finish_reason) <= {"length", "stop_string"} and "e" not in "".join(rows.text)
    assert rows[0].prompt_logprobs[1:] == pytest.approx(-np.asarray(model.loss(TEXT)), abs=1e-4)
    flags = [f"--sample.{name}={value}" for name, value in knobs.items()]
    argv = ["sample", f"--workdir={workdir}", f"--prompt={TEXT}", *flags, "--output=jsonl", f"--to={tmp_path / 'out'}"]
    for _ in range(2):  # the second time there is nothing left to do
        assert launch.main(argv) == 0 and not capsys.readouterr().out
        lines = [json.loads(line) for line in (tmp_path / "out").read_text().splitlines()]
        assert [line["text"] for line in lines] == rows.text and [line["sample"] for line in lines] == [0, 1]
        assert [line["top_ids"] for line in lines] == [row.top_ids for row in rows]
    assert launch.main([*argv, "--sample.top_k=3"]) == 2 and "line 1 of" in capsys.readouterr().err
    monkeypatch.setattr(sys, "stdin", io.StringIO(f":max_new_tokens 6\n:stop_strings e\n{TEXT}\n"))
    assert launch.main(["sample", f"--workdir={workdir}", "--interactive"]) == 0
    assert capsys.readouterr().out == f"{TEXT}{rows[0].text}\n"


@pytest.mark.parametrize(
    "flags, words",
    [
        (["--prompt=a", "--to=x"], ("--to", "--output=jsonl")),
        (["--interactive", "--prompt=a"], ("--interactive and --prompt",)),
        (["--interactive", "--output=ids"], ("--interactive and --output",)),
        (["--prompt=a", "--sample.temperature=-1"], ("temperature", "above 0")),
        (["--prompt=a", "--sample.top_p=0"], ("top_p", "above 0, up to 1")),
        (["--prompt=a", "--sample.seed=-1"], ("seed",)),
        (["--prompt=a", "--sample.num_return_sequences=0"], ("num_return_sequences", "1 to")),
        (
            ["--prompt=a", "--sample.num_return_sequences=2", "--sample.temperature=0"],
            ("num_return_sequences", "temperature"),
        ),
        (["--prompt=a", "--sample.stop_string=x"], ("did you mean --sample.stop_strings?",)),
        (["--prompt=a", "--sample.stop_strings=('a', '')"], ("stop_strings", "empty")),
        (["--prompt_ids=300"], ("300", "0 to 256")),
    ],
)
def test_what_cannot_be_written_is_refused(model, workdir, capsys, flags, words):
    assert launch.main(["sample", f"--workdir={workdir}", *flags]) == 2
    said = capsys.readouterr().err
    assert all(word in said for word in words), said


def test_a_text_ends_with_the_context(model, workdir, capsys):
    """README's own command: 200 tokens that nobody asked for, and a context that has no room for them."""
    assert launch.main(["sample", f"--workdir={workdir}", "--prompt=def "]) == 0
    shown = capsys.readouterr()
    written = model.generate("def ")
    assert shown.out == f"{written}\n" and len(written.ids) == 28 and "28 new tokens instead of 200" in shown.err
    assert capsys.readouterr().err == shown.err
    with pytest.raises(UserError, match="do not fit"):
        model.generate("def ", max_new_tokens=200)
    for flag in ("--sample.max_new_tokens=200", "--config.sample.max_new_tokens=200"):
        assert launch.main(["sample", f"--workdir={workdir}", "--prompt=def ", flag]) == 2


def test_attention_is_shown(model):
    maps = model.attention(TEXT)
    weights = np.asarray(maps)
    assert weights.shape == (2, 2, len(TEXT), len(TEXT)) and maps.labels[3] == "·"
    np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-5)
    assert maps._repr_html_().startswith("<img") and "2 x 2 x 14 x 14" in repr(maps)


@pytest.mark.parametrize(
    "ask, words",
    [
        (lambda model: model.logits([257]), "0 to 256"),
        (lambda model: model.logits([-1]), "0 to 256"),
        (lambda model: model.logits([]), "neither"),
        (lambda model: model.logits([0.5]), "neither"),
        (lambda model: model.logits([[1, 2], [3]]), "of equal lengths"),
        (lambda model: model.read([[1, 2], [3]]), "[1, 2] is not a token id"),
        (lambda model: model.logits("a" * 33), "33 tokens"),
        (lambda model: model.loss("a" * 34), "34 tokens"),
        (lambda model: model.loss("a"), "one token"),
        (lambda model: model.attention([[1, 2]]), "one text"),
        (lambda model: model.generate("a", top_q=1), "sample.top_q"),
        (lambda model: model.generate("a", top_p=2.0), "out of range"),
        (lambda model: model.generate([]), "no token"),
        (lambda model: model.generate([0.5]), "not a token id"),
        (lambda model: model.generate([[5], [6, 300]]), "prompt 2"),
        (lambda model: gpt_jax.load(model.where, step=3), "no checkpoint of step 3"),
        (lambda model: gpt_jax.load(model.where / "checkpoints" / "4", step=3), "step = 3"),
        (lambda model: gpt_jax.load(model.where / "nowhere"), "no run"),
        (lambda model: gpt_jax.load("s3://bucket/run"), "address"),
    ],
)
def test_what_cannot_be_is_refused(model, ask, words):
    with pytest.raises(UserError) as error:
        ask(model)
    assert words in str(error.value)


def test_a_step_is_opened_by_its_directory(model, workdir):
    found = gpt_jax.load(workdir / "checkpoints" / "4")
    np.testing.assert_array_equal(found.logits(TEXT), model.logits(TEXT))


def test_layers_may_be_scanned(settings, model, tmp_path):
    """The same checkpoint, with its layers in the other layout."""
    shutil.copytree(model.where, tmp_path / "q")
    scanned = api.opened(Config.from_dict(model.config.to_dict() | _section(model, "model", scan=True)), tmp_path / "q")
    np.testing.assert_allclose(scanned.logits(TEXT), model.logits(TEXT), atol=1e-5)
    np.testing.assert_allclose(scanned.attention(TEXT), model.attention(TEXT), atol=1e-5)
    assert scanned.generate(TEXT, max_new_tokens=3).ids == model.generate(TEXT, max_new_tokens=3).ids


def _section(model: api.Model, name: str, **changes) -> dict:
    return {name: model.config.to_dict()[name] | changes}


def test_an_exported_model_is_the_same(model, tmp_path):
    """In the layout of Hugging Face's, read where it is, without a run directory."""
    pytest.importorskip("safetensors")
    exporting.export_run(model.config, model.where, tmp_path / "hf", None, exporting.Form())
    found = gpt_jax.load(tmp_path / "hf")
    ids = list(TEXT.encode())
    np.testing.assert_allclose(found.logits(ids), model.logits(ids), atol=1e-5)
    assert found.tokenizer is None and found.step == 0 and "no tokenizer" in repr(found)
    assert found.generate(ids, temperature=0, max_new_tokens=3).text is None
    with pytest.raises(UserError, match="no tokenizer"):
        found.logits(TEXT)
    with pytest.raises(UserError, match="no steps"):
        gpt_jax.load(tmp_path / "hf", step=1)


def test_a_run_of_eight_devices_opens_on_one_without_its_data(settings, tmp_path):
    assert jax.device_count() == 8
    workdir, text = tmp_path / "sharded", tiny.write_text(tmp_path)
    own = {"data.source": f"text(path={str(text)!r})", "data.cache": str(tmp_path / "cache")}
    gpt_jax.train(
        "base", workdir, settings | own, **{"mesh.fsdp": 8, "mesh.data": 1, "train.steps": 1, "model.layers": 1}
    )
    here = gpt_jax.load(workdir)
    shutil.rmtree(tmp_path / "cache")
    text.unlink()
    code = f"""if True:
        import gpt_jax, jax, numpy
        model = gpt_jax.load({str(workdir)!r})
        numpy.save({str(tmp_path / "there.npy")!r}, model.logits({TEXT!r}))
        assert jax.device_count() == 1"""
    environment = os.environ | {"XLA_FLAGS": xla.flags()}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "data=-1 instead of data=1, fsdp=1 instead of fsdp=8, to fit 1 device" in done.stderr
    np.testing.assert_allclose(np.load(tmp_path / "there.npy"), here.logits(TEXT), atol=1e-5)
    for other in ({"mesh.tensor": 2, "mesh.fsdp": 8}, {"mesh.data": 3}):
        changed = Config.from_dict(here.config.to_dict() | _section(here, "mesh", **_short(other)))
        np.testing.assert_allclose(api.opened(changed, workdir).logits(TEXT), here.logits(TEXT), atol=1e-5)


def _short(knobs: dict) -> dict:
    return {knob.partition(".")[2]: value for knob, value in knobs.items()}


def test_a_run_drafts_for_another(model, workdir):
    """A run of its own words is always accepted; of another tokenizer it is refused."""
    plain = model.generate("ab", max_new_tokens=6, temperature=0.0)
    step = f"{workdir}@{model.step}"
    found = model.generate("ab", max_new_tokens=6, temperature=0.0, draft=step, num_assistant_tokens=2)
    assert found.ids == plain.ids and plain.acceptance is None
    assert found.acceptance.accepted == found.acceptance.tested and found.acceptance.written == len(found.ids) - 1
    other = dataclasses.replace(model, tokenizer=None)
    with pytest.raises(UserError, match="has another tokenizer"):
        other.generate([1, 2], max_new_tokens=2, draft=step)
