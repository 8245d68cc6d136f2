"""The tokenizer that a directory came with, or none: never another one; and the files that are carried along."""

import dataclasses
import json
import shutil

import pytest

from gpt_jax.config import Config
from gpt_jax.convert.exporting import Form, export_run
from gpt_jax.convert.importing import import_directory
from gpt_jax.data.open import open_data
from gpt_jax.data.rendering import Writer, dialogue, template_of
from gpt_jax.data.tokenizers.bytes import Bytes
from gpt_jax.errors import UserError
from gpt_jax.run_directory import read_tokenizer
from gpt_jax.sample.prompts import encoded, length
from tests.interop.models import V, model, others, transformers

TEXT = "the quick brown fox jumps over the lazy dog"
GENERATION = {"bos_token_id": 2, "eos_token_id": [2, 7], "do_sample": True, "repetition_penalty": 1.1}
OWN = {"bos_token_id": 2, "eos_token_id": [2, 7], "pad_token_id": 1, "prefix": "</s>"}
OWN |= {"task_specific_params": {"text-generation": {"max_length": 50}}}


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """A folder with vocab.json and merges.txt, of fewer tokens than the model has."""
    import tokenizers
    from tokenizers import models, pre_tokenizers, trainers

    folder = tmp_path_factory.mktemp("parts")
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.train_from_iterator([TEXT], trainers.BpeTrainer(vocab_size=60, special_tokens=["<s>", "<pad>", "</s>"]))
    tokenizer.model.save(str(folder))
    return folder


@pytest.fixture(scope="module")
def opt(tmp_path_factory):
    folder = tmp_path_factory.mktemp("opt") / "theirs"
    model("opt").save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | OWN))
    return folder


@pytest.fixture
def theirs(opt, tmp_path):
    return shutil.copytree(opt, tmp_path / "theirs")


def reading(config: Config, tmp_path, text: str) -> Config:
    """The same with a text to read."""
    (tmp_path / "t.txt").write_text(text * 100)
    data = dataclasses.replace(
        config.data, source=f"text(path={str(tmp_path / 't.txt')!r})", cache=str(tmp_path / "cache")
    )
    return dataclasses.replace(config, data=data)


def with_parts(theirs, parts):
    for path in parts.iterdir():
        shutil.copyfile(path, theirs / path.name)
    settings = {"tokenizer_class": "GPT2Tokenizer", "eos_token": "</s>", "bos_token": "</s>", "unk_token": "</s>"}
    (theirs / "tokenizer_config.json").write_text(json.dumps(settings))


def test_a_tokenizer_in_two_files_is_the_one_of_the_data(theirs, parts, tmp_path):
    with_parts(theirs, parts)
    config = import_directory(theirs, tmp_path / "run", others())
    own = read_tokenizer(tmp_path / "run")
    assert own.separator == 2 and own.decode(own.encode(TEXT)) == TEXT
    assert open_data(reading(config, tmp_path, TEXT)).tokenizer.fingerprint == own.fingerprint


@pytest.mark.parametrize("file, said", [("tokenizer.model", "sentencepiece"), ("notes.txt", "has no tokenizer")])
def test_without_one_no_text_is_read(theirs, tmp_path, capsys, file, said):
    (theirs / file).write_bytes(b"\n\x05\n")
    config = import_directory(theirs, tmp_path / "run", others())
    assert said in capsys.readouterr().out
    with pytest.raises(UserError, match="without a tokenizer that can be used") as caught:
        open_data(reading(config, tmp_path, TEXT))
    assert caught.value.exit_code == 2
    assert not (tmp_path / "run" / "tokenizer.json").exists()


def test_one_that_is_asked_for_is_taken(theirs, parts, tmp_path):
    with_parts(theirs, parts)
    values = others()
    values["data"]["tokenizer"] = "bytes"
    assert import_directory(theirs, tmp_path / "run", values).data.tokenizer == "bytes"
    assert read_tokenizer(tmp_path / "run").fingerprint == Bytes.fingerprint
    for learned in ("chars", "bpe(vocab_size=300)"):
        values["data"]["tokenizer"] = learned
        with pytest.raises(UserError, match="made from texts"):
            import_directory(theirs, tmp_path / "other", values)
        assert not (tmp_path / "other").exists()


def test_a_token_beyond_the_embedding(theirs, parts, tmp_path):
    """Gemma 3's tokenizer has one id more than its text models: it may be used until the id occurs."""
    with_parts(theirs, parts)
    vocab = json.loads((theirs / "vocab.json").read_text())
    fill = {f"<fill{i}>": i for i in range(len(vocab), V)}
    (theirs / "added_tokens.json").write_text(json.dumps(fill | {"<image>": V}))
    config = import_directory(theirs, tmp_path / "run", others())
    tokenizer = read_tokenizer(tmp_path / "run")
    assert tokenizer.vocab == V + 1
    assert open_data(reading(config, tmp_path, TEXT)).vocab == V
    with pytest.raises(UserError, match=f"the token '<image>', id {V}, and model.vocab is {V}"):
        open_data(reading(config, tmp_path, TEXT + "<image>"))

    def new(text):
        return length(encoded(text, "--prompt", tokenizer), config.model, 1, exact=True, tokenizer=tokenizer)

    assert new("the fox") == 1
    with pytest.raises(UserError, match=f"the token '<image>', id {V}, is outside"):
        new("the <image>")


def test_carried_files_come_out_as_they_came_in(theirs, parts, tmp_path):
    with_parts(theirs, parts)
    (theirs / "generation_config.json").write_text(json.dumps(GENERATION))
    (theirs / "additional_chat_templates").mkdir()
    others_ = ("special_tokens_map.json", "chat_template.jinja", "additional_chat_templates/tools.jinja")
    for name in others_:
        (theirs / name).write_text('{"eos_token": "</s>"}')
    config = import_directory(theirs, tmp_path / "run", others())
    export_run(config, tmp_path / "run", tmp_path / "ours", None, Form())
    names = ("generation_config.json", "tokenizer_config.json", "vocab.json", "merges.txt", *others_)
    for name in names:
        assert (tmp_path / "ours" / name).read_bytes() == (theirs / name).read_bytes(), name
    written = json.loads((tmp_path / "ours" / "config.json").read_text())
    assert {key: written[key] for key in OWN} == OWN


def test_the_tokens_of_a_template_join_the_carried_ones(theirs, parts, tmp_path):
    with_parts(theirs, parts)
    (theirs / "generation_config.json").write_text(json.dumps(GENERATION))
    values = others()
    values["data"]["template"] = "chatml"
    config = import_directory(theirs, tmp_path / "run", values)
    ours = read_tokenizer(tmp_path / "run")
    ids = [ours.special(name) for name in ("<|im_start|>", "<|im_end|>")]
    assert ids == [ours.inner.vocab, ours.inner.vocab + 1] and ids[1] < V
    export_run(config, tmp_path / "run", tmp_path / "ours", None, Form())
    read = transformers.AutoTokenizer.from_pretrained(tmp_path / "ours")
    assert read.convert_tokens_to_ids(["<|im_start|>", "<|im_end|>"]) == ids
    messages = dialogue("the fox", "jumps")
    (written,) = Writer(template_of(config), ours).write([messages])
    found = read.apply_chat_template(messages, return_dict=False)
    assert found == written.ids.tolist()[len(ours.opening) :]
    generation = json.loads((tmp_path / "ours" / "generation_config.json").read_text())
    assert generation == GENERATION | {"eos_token_id": [*GENERATION["eos_token_id"], ids[1]]}
