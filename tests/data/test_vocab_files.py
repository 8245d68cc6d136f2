"""Tokenizers in several files, and a tokenizer.json without the keys that it may leave out."""

import json
import shutil

import numpy as np
import pytest

from gpt_jax.data import vocab_files
from gpt_jax.data.tokenizers.file import Subwords, read_spec
from gpt_jax.errors import UserError

TEXT = "The quick brown fox doesn't jump over 12345 lazy dogs;\n\n  naïve 中文 🙂 </s> it's\tover  "
OPT = {"tokenizer_class": "GPT2Tokenizer", "add_bos_token": True, "add_prefix_space": False}
TOKEN = {"__type": "AddedToken", "lstrip": False, "normalized": True, "rstrip": False, "single_word": False}
OPT |= {f"{role}_token": TOKEN | {"content": "</s>"} for role in ("bos", "eos", "unk")}
OPT |= {"pad_token": TOKEN | {"content": "<pad>"}}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with vocab.json and merges.txt, of 340 tokens with OPT's four among them."""
    import tokenizers
    from tokenizers import models, pre_tokenizers, trainers

    folder = tmp_path_factory.mktemp("trained")
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    trainer = trainers.BpeTrainer(
        vocab_size=340, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([TEXT * 3, "the dogs of the fox jump over the lazy brown dogs"] * 3, trainer)
    tokenizer.model.save(str(folder))
    return folder


@pytest.fixture
def folder(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "tokenizer")


def subwords(folder, separator="</s>"):
    return Subwords(read_spec(folder), separator, str(folder))


@pytest.mark.parametrize(
    "settings",
    [
        OPT,
        {"tokenizer_class": "GPT2Tokenizer", "eos_token": "</s>", "unk_token": "</s>", "bos_token": "</s>"},
        {"tokenizer_class": "GPT2TokenizerFast", "add_prefix_space": True, "unk_token": "<unk>", "eos_token": "</s>"},
        {"tokenizer_class": "Qwen2Tokenizer", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "</s>"},
        {"tokenizer_class": "GPTNeoXTokenizer", **{f"{r}_token": "</s>" for r in ("bos", "eos", "unk", "pad")}},
    ],
    ids=lambda settings: settings["tokenizer_class"],
)
def test_it_is_the_tokenizer_of_transformers(folder, settings):
    transformers = pytest.importorskip("transformers")
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    theirs = getattr(transformers, settings["tokenizer_class"].removesuffix("Fast")).from_pretrained(folder)
    ours = subwords(folder)
    plain = theirs(TEXT.replace("</s>", ""), add_special_tokens=False)["input_ids"]
    assert ours.encode(TEXT.replace("</s>", "")).tolist() == plain
    assert ours.separator == theirs.eos_token_id
    import tokenizers

    whole = tokenizers.Tokenizer.from_str(vocab_files.spec(folder)).encode("the fox </s>").ids
    assert whole == theirs("the fox </s>")["input_ids"]


def test_bytes_and_round_trips(folder):
    (folder / "tokenizer_config.json").write_text(json.dumps(OPT))
    tokenizer = subwords(folder)
    ids = tokenizer.encode(TEXT)
    assert tokenizer.decode(ids) == TEXT
    assert tokenizer.byte_lengths[ids].sum() == len(TEXT.encode())
    assert tokenizer.byte_lengths[tokenizer.separator] == 0


def test_added_tokens_keep_their_ids(folder):
    size = len(json.loads((folder / "vocab.json").read_text()))
    (folder / "added_tokens.json").write_text(json.dumps({"word": size + 1, "other": size}))
    listed = {str(size + 3): {"content": "<|im_end|>", "special": True, "lstrip": True}}
    settings = {"tokenizer_class": "TokenizersBackend", "added_tokens_decoder": listed}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "special_tokens_map.json").write_text(json.dumps({"eos_token": "</s>", "pad_token": "<new>"}))
    parsed = json.loads(read_spec(folder))
    ids = {token["content"]: (token["id"], token["special"]) for token in parsed["added_tokens"]}
    assert ids["other"] == (size, False) and ids["word"] == (size + 1, False)
    assert ids["<|im_end|>"] == (size + 3, True) and ids["</s>"][1]
    assert ids.pop("<new>") == (size + 4, True)
    parsed["added_tokens"] = [token for token in parsed["added_tokens"] if token["content"] != "<new>"]
    with pytest.raises(UserError, match="there is a gap below it"):
        Subwords(json.dumps(parsed), "</s>", "t.json")
    (folder / "added_tokens.json").write_text(json.dumps({"word": size + 1, "other": size, "third": size + 2}))
    tokenizer = subwords(folder)
    assert tokenizer.vocab == size + 5
    assert size + 1 in tokenizer.encode("a word")


@pytest.mark.parametrize(
    "file, text, said",
    [
        ("tokenizer_config.json", '{"tokenizer_class": "OpenAIGPTTokenizer"}', "a OpenAIGPTTokenizer cannot be made"),
        ("config.json", '{"model_type": "openai-gpt"}', "a OpenAIGPTTokenizer cannot be made"),
        ("vocab.json", '{"a": 0, "the</w>": 1}', "not one of bytes"),
        ("vocab.json", "{", "vocab.json is not what its name says"),
        ("merges.txt", "a b\na b c\n", "merges.txt is not what its name says: line 2 holds 3 words"),
        ("added_tokens.json", '{"far": 5000}', "the id 5000"),
        ("added_tokens.json", "[1]", "not of the type"),
        ("vocab.json", '["Ġ"]', "is not a tokenizer.json"),
        ("tokenizer_config.json", '{"eos_token": 3}', "not of the type"),
    ],
)
def test_what_cannot_be_used_is_named(folder, file, text, said):
    (folder / file).write_text(text)
    with pytest.raises(UserError) as caught:
        subwords(folder)
    assert said in str(caught.value) and str(folder) in str(caught.value)


def test_a_byte_order_mark_and_line_ends_of_windows_are_no_part_of_them(folder, tmp_path):
    whole = subwords(folder)
    spec = vocab_files.spec(folder)
    for name in ("vocab.json", "merges.txt"):
        text = (folder / name).read_text("utf-8")
        (folder / name).write_bytes(text.replace("\n", "\r\n").encode("utf-8-sig"))
    (tmp_path / "t.json").write_text(spec, "utf-8-sig")
    assert subwords(folder).fingerprint == whole.fingerprint
    assert read_spec(tmp_path / "t.json") == spec


@pytest.mark.parametrize("first", ["", "#version: 0.2\n"])
def test_a_version_is_no_merge(first):
    assert vocab_files.merges_of(f"{first}# #\na b\n") == [("#", "#"), ("a", "b")]


def test_keys_that_a_tokenizer_json_may_leave_out(folder):
    whole = json.loads(vocab_files.spec(folder))
    least = {key: whole[key] for key in ("version", "pre_tokenizer", "model")}
    expected = subwords(folder)
    as_text = least["model"] | {"merges": [" ".join(pair) for pair in least["model"]["merges"]]}
    for spec in (least, least | {"model": as_text}, least | {"decoder": None, "normalizer": None, "added_tokens": []}):
        tokenizer = Subwords(json.dumps(spec), "</s>", "t.json")
        ids = tokenizer.encode(TEXT.replace("</s>", ""))
        np.testing.assert_array_equal(ids, expected.encode(TEXT.replace("</s>", "")))
        assert tokenizer.decode(ids) == TEXT.replace("</s>", "")
        assert tokenizer.byte_lengths[ids].sum() == len(TEXT.replace("</s>", "").encode())
