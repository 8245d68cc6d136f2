"""The tokens that a text begins and ends with: those of a pretrained model in sampling, ours in an export."""

import json

import pytest

import gpt_jax
import launch
from gpt_jax.run_directory import read_tokenizer
from tests import fallback
from tests.interop.models import fresh_run, transformers

SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 24}
ENDS = [2, 7]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A Llama whose tokenizer begins texts with <s>, and which ends them with either of two tokens."""
    folder = tmp_path_factory.mktemp("theirs")
    config = transformers.AutoConfig.for_model("llama", vocab_size=312, max_position_embeddings=24, **SIZES)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    fallback.tokenizer(opening="<s>").save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "</s>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": ENDS}))
    return folder


@pytest.fixture(scope="module")
def run(source, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "x"
    assert launch.main(["import", f"--from={source}", f"--workdir={workdir}"]) == 0
    return workdir


def test_prompts_begin_as_transformers_tokenizer_begins_them(source, run, capsys):
    theirs = transformers.AutoTokenizer.from_pretrained(source)("hi you")["input_ids"]
    for where in (source, run):
        written = gpt_jax.load(where).generate("hi you", max_new_tokens=2)
        assert written.prompt_ids == theirs and theirs[0] == 1
        assert written.prompt == "hi you"
    assert launch.main(["sample", f"--workdir={run}", "--prompt=hi", "--sample.max_new_tokens=2"]) == 0
    assert "begin without" not in capsys.readouterr().err


@pytest.fixture(scope="module")
def own(run, tmp_path_factory):
    """A run that was trained here, with the same tokenizer."""
    workdir = tmp_path_factory.mktemp("own") / "x"
    fresh_run(workdir, {"layers": 2, "width": 16, "heads": 4, "vocab": 320, "context": 24})
    stored = json.loads((run / "tokenizer.json").read_text())
    (workdir / "tokenizer.json").write_text(json.dumps({key: stored[key] for key in ("kind", "spec", "separator")}))
    return workdir


def test_a_model_that_saw_documents_without_is_prompted_without_and_sampling_says_so(own, capsys):
    assert launch.main(["sample", f"--workdir={own}", "--prompt=hi", "--output=ids"]) == 0
    shown = capsys.readouterr()
    assert "prompts begin without <s>" in shown.err and shown.out.split()[0] != "1"


def test_a_prompt_in_another_encoding_is_continued(own, capsys):
    assert launch.main(["sample", f"--workdir={own}", "--prompt=caf\udce9", "--output=jsonl"]) == 0
    assert json.loads(capsys.readouterr().out)["prompt"] == "caf\N{REPLACEMENT CHARACTER}"


def test_any_of_several_tokens_ends_a_text(run):
    assert read_tokenizer(run).stop_ids == (2, 7)
    model = gpt_jax.load(run)
    assert not set(ENDS) & set(model.generate("hi", max_new_tokens=12, seed=0, temperature=5.0).ids[:-1])
    found = [model.generate("hi", max_new_tokens=12, seed=seed, temperature=50.0).ids for seed in range(40)]
    assert {ids[-1] for ids in found if len(ids) < 12} == set(ENDS)


def test_an_export_names_the_token_that_ends_a_text(tmp_path, own):
    assert launch.main(["export", f"--workdir={own}", f"--to={tmp_path / 'ours'}"]) == 0
    for name in ("config.json", "generation_config.json"):
        assert json.loads((tmp_path / "ours" / name).read_text())["eos_token_id"] == 2
    back = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "ours")
    assert back.generation_config.eos_token_id == 2


def test_an_export_of_an_import_keeps_its_tokens(tmp_path, run):
    assert launch.main(["export", f"--workdir={run}", f"--to={tmp_path / 'ours'}"]) == 0
    assert json.loads((tmp_path / "ours" / "generation_config.json").read_text())["eos_token_id"] == ENDS
