"""A run with a template is spoken to as it was trained: prompts become messages, and answers end where they do."""

import json

import numpy as np
import pytest

import gpt_jax
import launch
from gpt_jax import registry
from gpt_jax.config import Config
from gpt_jax.configs import base
from gpt_jax.convert import exporting, importing
from gpt_jax.data.rendering import Writer, dialogue, template_of
from gpt_jax.data.tokenizers.extended import Extended
from gpt_jax.errors import UserError
from gpt_jax.run_directory import read_config, read_tokenizer
from gpt_jax.sample.prompts import read_prompts
from tests.train import tiny

HELLO = "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n"
MESSAGES = [{"role": "system", "content": "Be kind."}, *dialogue("hello", "hi"), *dialogue("and?")]
PROMPTS = ("prompt", "prompt_ids", "prompts")


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """A run that read some text, and has the tokens of ChatML."""
    folder = tmp_path_factory.mktemp("runs")
    text = tiny.write_text(folder)
    argv = tiny.command(text, folder / "q", data__template="chatml", data__tokenizer="bpe(vocab_size=262)")
    argv += [
        "--config.model.context=128",
        "--config.train.batch=8",
        "--config.train.steps=2",
        "--config.sample.prompts=('hello',)",
    ]
    assert launch.main([*argv, "--config.sample.max_new_tokens=4"]) == 0
    return folder / "q"


@pytest.fixture(scope="module")
def model(workdir):
    return gpt_jax.load(workdir)


def said(capsys, *argv) -> str:
    assert launch.main(["sample", *map(str, argv), "--sample.max_new_tokens=4"]) == 0
    return capsys.readouterr().out


def test_the_samples_at_the_end_of_training_answer(workdir):
    assert (workdir / "samples" / "2.txt").read_text().startswith(f"--- sample 1\n{HELLO}")


def test_the_run_keeps_the_tokens(workdir, model):
    tokenizer = read_tokenizer(workdir)
    assert isinstance(tokenizer, Extended) and tokenizer.vocab == 264 == model.config.model.vocab
    assert tokenizer.fingerprint == model.tokenizer.fingerprint
    assert tokenizer.special("<|im_end|>") in model.tokenizer.stop_ids


def test_a_text_is_the_users(workdir, capsys):
    assert said(capsys, f"--workdir={workdir}", "--prompt=hello").startswith(HELLO)
    raw = said(capsys, f"--workdir={workdir}", "--prompt=hello", "--sample.templated=False")
    assert raw.startswith("hello") and "im_start" not in raw[:12]


def test_ids_are_continued_as_they_are(workdir, capsys):
    out = said(capsys, f"--workdir={workdir}", "--prompt_ids=5 17 3", "--output=ids")
    assert out.split()[:3] == ["5", "17", "3"]


def test_a_file_holds_texts_and_messages(workdir, model, capsys, tmp_path):
    rows = [{"prompt": "hello"}, {"messages": MESSAGES}, {"prompt": MESSAGES, "seed": 3}, {"ids": [5]}]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = said(capsys, f"--workdir={workdir}", f"--prompts={tmp_path / 'p.jsonl'}", "--output=jsonl")
    found = [json.loads(line)["prompt"] for line in out.splitlines()]
    assert found[0] == HELLO and found[1] == found[2] and found[3] is not None
    assert found[1].startswith("<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nhello<|im_end|>\n")
    assert found[1].endswith("<|im_start|>user\nand?<|im_end|>\n<|im_start|>assistant\n")


@pytest.mark.parametrize(
    "line, what",
    [
        ('{"messages": []}', "there are no messages"),
        ('{"messages": [{"role": "tool", "content": "x"}]}', "message 1 has the role 'tool'"),
        ('{"prompt": [5, 7]}', "message 1 is 5"),
        ('{"prompt": "x", "messages": []}', "the line is not a prompt"),
        ('{"messages": "x"}', "the line is not a prompt"),
    ],
)
def test_bad_lines_are_named(line, what, workdir, capsys, tmp_path):
    (tmp_path / "p.jsonl").write_text('{"prompt": "hello"}\n' + line)
    assert launch.main(["sample", f"--workdir={workdir}", f"--prompts={tmp_path / 'p.jsonl'}"]) == 2
    error = capsys.readouterr().err
    assert what in error and "p.jsonl:2" in error


def test_messages_need_a_template(model, tmp_path):
    (tmp_path / "p.jsonl").write_text(json.dumps({"messages": MESSAGES}))
    given = dict.fromkeys(PROMPTS) | {"prompts": str(tmp_path / "p.jsonl")}
    with pytest.raises(UserError, match="written by a template"):
        read_prompts(given, model.config.sample, model.tokenizer)
    with pytest.raises(UserError, match="no tokenizer"):
        read_prompts(given, model.config.sample, None)


def test_the_front_door_takes_the_same(model):
    knobs = {"max_new_tokens": 4, "temperature": 0.0}
    answer = model.generate("hello", **knobs)
    assert answer.prompt == HELLO
    again, other = model.generate([dialogue("hello"), MESSAGES], **knobs)
    assert again.ids == answer.ids and other.prompt.endswith("assistant\n")
    assert model.generate(MESSAGES, **knobs).ids == other.ids
    assert model.generate("hello", templated=False, **knobs).prompt == "hello"
    assert model.generate(answer.prompt_ids, **knobs).ids == answer.ids
    (written,) = Writer(template_of(model.config), model.tokenizer).write([dialogue("hello")], answer=True)
    assert answer.prompt_ids == written.ids.tolist()


def test_an_answer_stops_at_the_end_of_the_template(model):
    end = model.tokenizer.special("<|im_end|>")
    answer = model.generate("hello", max_new_tokens=4, logit_bias=(((end,), 1e6),))
    assert answer.finish_reason == "stop" and answer.text == "" and answer.ids == [end]


@pytest.mark.parametrize("name", registry.names("data.templates"))
def test_every_template_asks(name, model, tmp_path):
    """As when the first message of a dialogue is written for training."""
    from gpt_jax.data.rendering import with_tokens
    from gpt_jax.sample.prompts import prompt_of

    template = registry.build("data.templates", name)
    writer = Writer(template, with_tokens(model.tokenizer.inner, template))
    prompt = prompt_of("hello", "a test", writer.tokenizer, writer)
    (whole,) = writer.write([dialogue("hello", "hi")])
    first = int(np.flatnonzero(whole.trained)[0])
    assert prompt.ids == whole.ids[:first].tolist()
    assert prompt.text == writer.tokenizer.decode(prompt.ids)


def test_an_export_asks_as_the_run_does(workdir, model, tmp_path):
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("torch")
    exporting.export_run(model.config, workdir, tmp_path / "hf", None, exporting.Form())
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "hf")
    (ours,) = Writer(template_of(model.config), model.tokenizer).write([MESSAGES], answer=True)
    found = theirs.apply_chat_template(MESSAGES, add_generation_prompt=True, return_dict=False)
    assert found == ours.ids.tolist()
    assert theirs.convert_tokens_to_ids("<|im_end|>") == model.tokenizer.special("<|im_end|>")
    network = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "hf")
    assert network.generation_config.eos_token_id == list(model.tokenizer.stop_ids)
    assert network.config.eos_token_id == list(model.tokenizer.stop_ids)
    import torch

    written = network.generate(torch.tensor([found]), do_sample=False, max_new_tokens=4)[0, len(found) :].tolist()
    assert model.generate(MESSAGES, max_new_tokens=4, temperature=0.0).ids == written

    others = base.get_config().to_dict()
    others["data"]["template"] = "chatml"
    others["data"]["tokenizer"] = "none"
    importing.import_directory(tmp_path / "hf", tmp_path / "back", others)
    back = gpt_jax.load(tmp_path / "back")
    assert Config.from_dict(read_config(tmp_path / "back")).data.template == "chatml"
    assert back.generate("hello", max_new_tokens=4, temperature=0.0).prompt == HELLO
    assert set(back.tokenizer.stop_ids) == set(model.tokenizer.stop_ids)
    exporting.export_run(back.config, tmp_path / "back", tmp_path / "again", None, exporting.Form())
    for name in ("tokenizer.json", "chat_template.jinja"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "hf" / name).read_bytes()
