"""``launch.py import`` and ``export``, and what a run made of them can do."""

import json
import shutil

import pytest

import launch
from gpt_jax.config import Config, ModelConfig
from gpt_jax.interop import compare
from gpt_jax.run_directory import config_json, read_config, read_tokenizer
from tests.interop.models import apart, fresh_run, model, our_logits, their_logits, transformers

SEPARATOR = "<eos>"


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A directory with a tokenizer, as a download has it."""
    import tokenizers
    from tokenizers import decoders, models, pre_tokenizers, trainers

    folder = tmp_path_factory.mktemp("theirs")
    model("llama").save_pretrained(folder)
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=60, special_tokens=[SEPARATOR], show_progress=False)
    tokenizer.train_from_iterator(["the quick brown fox jumps over the lazy dog"], trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": {"content": SEPARATOR}}))
    return folder


@pytest.fixture(scope="module")
def run(source, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "x"
    assert launch.main(["import", f"--from={source}", f"--workdir={workdir}", "--optim.lr=1e-5"]) == 0
    return workdir


def test_the_run_directory(run, source):
    names = {"config.json", "environment.json", "tokenizer.json", "checkpoints", "huggingface"}
    assert {path.name for path in run.iterdir()} == names
    assert [path.name for path in run.parent.iterdir()] == ["x"]
    config = json.loads((run / "config.json").read_text())
    assert config["optim"]["lr"] == 1e-5
    assert config["data"]["tokenizer"].startswith("file(path=")
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["0"]
    ids = read_tokenizer(run).encode("the lazy fox")
    assert read_tokenizer(run).decode(ids) == "the lazy fox"
    assert (run / "huggingface" / "tokenizer.json").read_bytes() == (source / "tokenizer.json").read_bytes()


def test_a_run_can_be_moved(run, tmp_path, capsys):
    """It names its own files relative to itself; training in it keeps that."""
    shutil.copytree(run, tmp_path / "it's moved")
    assert str(run) not in (run / "config.json").read_text()
    (tmp_path / "text.txt").write_text("the quick brown fox jumps over the lazy dog\n" * 200)
    shutil.move(run / "huggingface", run / "elsewhere")
    try:
        command = ["eval", f"--workdir={tmp_path}/it's moved", f"--config.data.source=text(path='{tmp_path}/text.txt')"]
        assert launch.main([*command, f"--config.data.cache={tmp_path / 'cache'}", "--config.train.batch=8"]) == 0
    finally:
        shutil.move(run / "elsewhere", run / "huggingface")
    config = Config.from_dict(read_config(tmp_path / "it's moved"))
    text = config_json(config, tmp_path / "it's moved")
    assert "it's" not in text and json.loads(text) == json.loads((run / "config.json").read_text())


def test_an_empty_volume_or_link_is_filled_in_place(run, source, tmp_path):
    volume = tmp_path / "volume"
    (volume / "lost+found").mkdir(parents=True)
    (tmp_path / "link").symlink_to(volume)
    number = volume.stat().st_ino
    assert launch.main(["export", f"--workdir={run}", f"--to={tmp_path / 'link'}"]) == 0
    assert (tmp_path / "link").is_symlink() and volume.stat().st_ino == number
    assert {"lost+found", "config.json", "model.safetensors"} <= {path.name for path in volume.iterdir()}
    assert not [path for path in volume.iterdir() if path.name.startswith(".")]
    assert launch.main(["import", f"--from={source}", f"--workdir={tmp_path / 'link'}"]) == 2


def test_sample(run, capsys):
    command = ["sample", f"--workdir={run}", "--prompt=the lazy", "--sample.max_new_tokens=4"]
    assert launch.main(command) == 0
    assert capsys.readouterr().out.startswith("the lazy")


def test_eval(run, tmp_path, capsys):
    """An imported model has seen no data: it may be evaluated on any."""
    (tmp_path / "text.txt").write_text("the quick brown fox jumps over the lazy dog " * 200)
    command = ["eval", f"--workdir={run}", f"--config.data.source=text(path='{tmp_path / 'text.txt'}')"]
    assert launch.main([*command, f"--config.data.cache={tmp_path / 'cache'}", "--config.train.batch=8"]) == 0
    assert "bits per byte" in capsys.readouterr().out


def test_export(run, source, tmp_path, capsys):
    assert launch.main(["export", f"--workdir={run}", f"--to={tmp_path / 'ours'}", "--shard_gb=1e-5"]) == 0
    assert "step 0" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["ours"]
    assert len(list((tmp_path / "ours").glob("*.safetensors"))) > 1
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / "ours" / name).read_bytes() == (source / name).read_bytes()
    back = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "ours").eval()
    assert apart(their_logits(back), our_logits(run)) < 1e-4


def test_export_of_a_run_trained_here(run, tmp_path):
    """The run's own tokenizer becomes one that transformers opens."""
    fresh_run(tmp_path / "run", {"layers": 2, "width": 16, "heads": 4, "vocab": 67, "context": 24})
    (tmp_path / "run" / "tokenizer.json").write_text((run / "tokenizer.json").read_text())
    assert launch.main(["export", f"--workdir={tmp_path / 'run'}", f"--to={tmp_path / 'ours'}", "--step=7"]) == 0
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "ours")
    assert tokenizer("the lazy fox")["input_ids"] == read_tokenizer(run).encode("the lazy fox").tolist()
    assert tokenizer.eos_token == SEPARATOR


def test_a_tokenizer_that_cannot_be_used(source, tmp_path, capsys):
    """It is carried along, and prompts are given as ids."""
    theirs = tmp_path / "theirs"
    model("openai-gpt").save_pretrained(theirs)
    spec = json.loads((source / "tokenizer.json").read_text())
    (theirs / "tokenizer.json").write_text(
        json.dumps(spec | {"decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True}})
    )
    assert launch.main(["import", f"--from={theirs}", f"--workdir={tmp_path / 'run'}"]) == 0
    assert "prompts have to be given as ids" in capsys.readouterr().out
    assert not (tmp_path / "run" / "tokenizer.json").exists()
    assert (tmp_path / "run" / "huggingface" / "tokenizer.json").exists()
    command = ["sample", f"--workdir={tmp_path / 'run'}", "--prompt_ids=5 17 3", "--output=ids"]
    assert launch.main([*command, "--sample.max_new_tokens=4"]) == 0


@pytest.mark.parametrize(
    "command, said",
    [
        (["import", "--workdir=x"], "--from is missing"),
        (["import", "--from=/nowhere", "--workdir=x"], "there is no such directory"),
        (["import", "--from=.", "--workdir=x", "--model.width=3"], "model.width"),
        (["export", "--workdir=/nowhere", "--to=x"], "there is no run"),
    ],
)
def test_mistakes(command, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert launch.main(command) == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_every_knob_is_compared():
    """A new knob of the model is either part of what an export must keep, or listed as one that is not."""
    kept = {*compare.VALUES, *compare.CALLS, "attention", "position", "bias", "init"}
    assert kept | set(compare.FREE) == set(ModelConfig.__dataclass_fields__)
