"""Prompts in, texts out: the pieces behind `launch.py sample`."""

import json
from dataclasses import replace

import numpy as np
import pytest

from gpt_jax import configs
from gpt_jax.config import SampleConfig
from gpt_jax.data.tokenizers.bytes import Bytes as data_bytes
from gpt_jax.data.tokenizers.file import Subwords
from gpt_jax.errors import UserError
from gpt_jax.sample.outputs.requests import requests
from gpt_jax.sample.outputs.stream import TextStream
from gpt_jax.sample.prompts import read_prompts
from gpt_jax.sample.text import continuations, sample_command
from tests import fallback
from tests.model.variants import config, parameters

BASE = configs.load("base").sample
SAMPLE = SampleConfig(**{**BASE, "max_new_tokens": 6, "temperature": 0.9, "seed": 3, "prompts": ("ab", "c")})


class Bytes:
    """Ids 0 to 255 are bytes; ``separator`` is the first that is none."""

    opening, unopened, fused_ids = (), "", frozenset()

    def __init__(self, separator=256):
        self.separator = separator
        self.stop_ids = () if separator is None else (separator,)

    def encode(self, text):
        return np.frombuffer(text.encode(), np.uint8).astype(np.int32)

    def decode(self, ids):
        return bytes(i for i in ids if i < 256).decode("utf-8", "replace")


MODEL = config(vocab=257, context=32)


def read(sample=SAMPLE, tokenizer=None, **given):
    names = ("prompt", "prompt_ids", "prompts")
    found = read_prompts({name: given.get(name) for name in names}, sample, tokenizer or Bytes())
    requests(found, MODEL, sample, exact=True, tokenizer=None)
    return found


def command(output, capsys, sample=SAMPLE, tokenizer=None, **given):
    names = ("prompt", "prompt_ids", "prompts")
    prompts = {name: given.get(name) for name in names}
    sample_command(MODEL, parameters(MODEL), tokenizer or Bytes(), sample, prompts, output)
    return capsys.readouterr().out


@pytest.mark.parametrize("whole", ["plain", "naïve café", "日本語", "🙂🙃", "a\N{REPLACEMENT CHARACTER}b", "e\u0301"])
@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_streamed_text_breaks_no_character(whole, size):
    ids = list(whole.encode())
    stream = TextStream(Bytes())
    parts = [stream.write(ids[i : i + size]) for i in range(0, len(ids), size)]
    assert "".join(parts) + stream.close() == whole
    assert all(part in whole for part in parts)


def test_streamed_text_of_broken_bytes_is_that_of_the_whole():
    random = np.random.default_rng(0)
    for _ in range(200):
        ids = random.choice([0x61, 0xC3, 0xA9, 0xE2, 0x82, 0xAC, 0xF0, 0x9F, 0x99, 0x82, 0xFF], size=12).tolist()
        stream = TextStream(Bytes(), ids[:3])
        streamed = "".join(stream.write([i]) for i in ids[3:]) + stream.close()
        assert Bytes().decode(ids).endswith(streamed)
        assert len(Bytes().decode(ids)) - len(streamed) in (
            len(Bytes().decode(ids[:3])),
            len(Bytes().decode(ids[:3])) - 1,
        )


def test_a_character_begun_by_the_prompt_is_finished():
    stream = TextStream(Bytes(), list("é".encode())[:1])
    assert stream.write(list("é".encode())[1:] + [0x21]) + stream.close() == "é!"


def test_parts_join_to_the_whole_with_every_tokenizer():
    """Whatever the ids, wherever they are cut; U+FFFD stands in a part only where it stands in the whole."""
    texts = [
        "hi 😀 you",
        "naïve 中文🙂🙃 hi",
        "a\N{REPLACEMENT CHARACTER}b",
        "e\u0301 \N{REPLACEMENT CHARACTER}",
    ]
    random = np.random.default_rng(0)
    for name in ("bytes", "fallback", "prepended"):
        made = (
            data_bytes()
            if name == "bytes"
            else Subwords(fallback.tokenizer(name == "prepended").to_str(), "</s>", name)
        )
        rows = [made.encode(text).tolist() for text in texts]
        rows += [random.choice(rows[0] + rows[1], size=12).tolist() for _ in range(20)]  # mostly broken characters
        for ids in rows:
            for cut in range(1, len(ids)):
                whole, stream = made.decode(ids), TextStream(made)
                parts = [stream.write(ids[:cut]), stream.write(ids[cut:]), stream.close()]
                assert "".join(parts) == whole
                assert whole.count("\N{REPLACEMENT CHARACTER}") or "\N{REPLACEMENT CHARACTER}" not in "".join(parts)


def test_a_prompt_is_not_written_again():
    made = Subwords(fallback.tokenizer().to_str(), "</s>", "made")
    for prompt in ("hi 😀", "a\N{REPLACEMENT CHARACTER}"):
        stream = TextStream(made, made.encode(prompt).tolist(), complete=True)
        assert stream.write(made.encode("x").tolist()[1:]) + stream.close() == "x"


@pytest.mark.parametrize("made", [data_bytes(), Subwords(fallback.tokenizer().to_str(), "</s>", "made")])
def test_lone_surrogates_become_replacement_characters(made, tmp_path):
    (tmp_path / "p.jsonl").write_text('{"prompt": "a\\ud83d"}')
    given = ({"prompts": str(tmp_path / "p.jsonl")}, {"prompt": "caf\udce9"})
    found = [prompt for values in given for prompt in read_prompts(values, SAMPLE, made)]
    assert [prompt.text for prompt in found] == ["a\N{REPLACEMENT CHARACTER}", "caf\N{REPLACEMENT CHARACTER}"]
    assert [made.decode(prompt.ids) for prompt in found] == [prompt.text for prompt in found]


def test_prompts_from_the_command_line():
    assert read(prompt="hé")[0].ids == list("hé".encode())
    assert [p.ids for p in (*read(prompt_ids="5 17 3"), *read(prompt_ids=" 5,17, 3 "))] == [[5, 17, 3]] * 2
    assert [p.text for p in read()] == ["ab", "c"]
    assert read(prompt="")[0].ids == [256]


def test_prompts_from_a_file(tmp_path):
    path = tmp_path / "p.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"prompt": "a\\u00e9"}\r\n\n{"ids": [5, 17]}\n{"prompt": ""}')
    assert [p.ids for p in read(prompts=str(path))] == [[0x61, 0xC3, 0xA9], [5, 17], [256]]


@pytest.mark.parametrize(
    "line, words",
    [
        (b'{"prompt": 5}', ("p.jsonl:2", '{"prompt": "text"}')),
        (b'{"prompt": "a", "ids": [1]}', ("p.jsonl:2", "not a prompt")),
        (b'{"prompt": "a", "tempratur": 1}', ("p.jsonl:2", "'tempratur'", "did you mean 'temperature'?")),
        (b'{"prompt": "a", "logprobs": 1}', ("p.jsonl:2", "'logprobs'", "single prompt")),
        (b'{"prompt": "a", "temperature": -1}', ("p.jsonl:2", "temperature", "above 0")),
        (b'{"prompt": "a", "top_p": 0}', ("p.jsonl:2", "top_p", "above 0, up to 1")),
        (b'{"prompt": "a", "top_k": "5"}', ("p.jsonl:2", "top_k", "an int")),
        (b'{"prompt": "a", "seed": -1}', ("p.jsonl:2", "seed")),
        (b'{"prompt": "a", "n": 2, "num_return_sequences": 2}', ("p.jsonl:2", "twice")),
        (b'{"prompt": "a", "n": 2, "temperature": 0}', ("p.jsonl:2", "num_return_sequences", "temperature")),
        (b'{"prompt": "a", "stop_token_ids": [257]}', ("p.jsonl:2", "stop_token_ids", "0 to 256")),
        (b'{"prompt": "a", "max_new_tokens": 32}', ("p.jsonl:2", "1 prompt tokens and 32 new ones")),
        (b'["a"]', ("p.jsonl:2", "not a prompt")),
        (b'{"prompt": "a"', ("p.jsonl:2", "not JSON")),
        (b'{"prompt": "\xff"}', ("p.jsonl:2", "utf-8")),
        (b'{"ids": [1, 2.5]}', ("p.jsonl:2", "2.5")),
        (b'{"ids": [true]}', ("p.jsonl:2", "True")),
        (b'{"ids": [300]}', ("p.jsonl:2", "300", "0 to 256")),
        (b'{"ids": []}', ("p.jsonl:2", "no token")),
        (b'{"ids": [' + b"1," * 40 + b"1]}", ("p.jsonl:2", "41 prompt tokens", "32")),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, words):
    path = tmp_path / "p.jsonl"
    path.write_bytes(b'{"prompt": "fine"}\n' + line + b"\n")
    with pytest.raises(UserError) as error:
        read(prompts=str(path))
    assert all(word in str(error.value) for word in words), str(error.value)


@pytest.mark.parametrize(
    "given, words",
    [
        ({"prompt": "a", "prompt_ids": "1"}, ("--prompt", "--prompt_ids")),
        ({"prompt_ids": "5 x"}, ("'x'", "--prompt_ids")),
        ({"prompt_ids": "5 -1"}, ("-1", "0 to 256")),
        ({"prompt_ids": ""}, ("no token",)),
        ({"prompts": "/no/such/file"}, ("/no/such/file", "No such file")),
        ({"prompt": "a" * 30}, ("30 prompt tokens", "6 new", "--sample.max_new_tokens=2")),
    ],
)
def test_a_bad_flag_is_named(given, words):
    with pytest.raises(UserError) as error:
        read(**given)
    assert all(word in str(error.value) for word in words), str(error.value)


def test_an_empty_file_and_no_prompt_at_all(tmp_path):
    (tmp_path / "p.jsonl").write_text("\n \n")
    with pytest.raises(UserError, match="no prompt"):
        read(prompts=str(tmp_path / "p.jsonl"))
    with pytest.raises(UserError, match="no prompt"):
        read(sample=replace(SAMPLE, prompts=()))


def test_an_empty_prompt_needs_a_separator():
    with pytest.raises(UserError, match="empty"):
        read(prompt="", tokenizer=Bytes(separator=None))


def test_text_needs_a_tokenizer():
    with pytest.raises(UserError, match="--prompt_ids"):
        read_prompts({"prompt": "a"}, SAMPLE, None)
    with pytest.raises(UserError, match="ids, jsonl"):
        sample_command(MODEL, {}, None, SAMPLE, {"prompt_ids": "1 2"}, "text")


def test_outputs_agree(capsys, tmp_path):
    """Live text, text of several, ids and JSON lines all tell of the same continuation."""
    live = command("text", capsys, prompt="ab")
    assert live.startswith("ab") and live.endswith("\n")
    line = json.loads(command("jsonl", capsys, prompt="ab"))
    assert line["prompt"] == "ab" and line["prompt_ids"] == [97, 98] and len(line["ids"]) == len(line["logprobs"]) == 6
    assert live == "ab" + line["text"] + "\n" and all(value < 0 for value in line["logprobs"])
    assert command("ids", capsys, prompt_ids="97 98").split() == [str(i) for i in [97, 98, *line["ids"]]]
    assert command("text", capsys).startswith("--- sample 1\n" + live.removesuffix("\n") + "\n--- sample 2\nc")
    assert continuations(MODEL, parameters(MODEL), Bytes(), SAMPLE)[0] == live.removesuffix("\n")


def test_ids_without_a_tokenizer(capsys):
    sample_command(MODEL, parameters(MODEL), None, SAMPLE, {"prompt_ids": "5 6"}, "jsonl")
    line = json.loads(capsys.readouterr().out)
    assert line["text"] is None and line["prompt"] is None and line["prompt_ids"] == [5, 6] and len(line["ids"]) == 6


def test_how_many_are_written_side_by_side_does_not_matter(capsys, tmp_path):
    (tmp_path / "p.jsonl").write_text("".join(json.dumps({"prompt": "a" * n}) + "\n" for n in range(1, 6)))
    whole = command("ids", capsys, prompts=str(tmp_path / "p.jsonl"))
    assert len(whole.splitlines()) == 5
    for rows in (1, 2, 4):
        few = replace(SAMPLE, rows=rows)
        assert command("ids", capsys, sample=few, prompts=str(tmp_path / "p.jsonl")) == whole


def test_a_separator_ends_the_text_and_is_not_shown(capsys):
    greedy = replace(SAMPLE, temperature=0.0)
    ids = json.loads(command("jsonl", capsys, sample=greedy, tokenizer=Bytes(separator=None), prompt="ab"))["ids"]
    stop = ids[3]
    line = json.loads(command("jsonl", capsys, sample=greedy, tokenizer=Bytes(separator=stop), prompt="ab"))
    assert line["ids"] == ids[: ids.index(stop) + 1]
    assert line["text"] == Bytes().decode([97, 98, *ids[: ids.index(stop)]])[2:]


def test_a_length_that_nobody_asked_for_ends_with_the_context(capsys):
    """Only one that was asked for is refused."""
    long = replace(SAMPLE, max_new_tokens=200)
    sample_command(MODEL, parameters(MODEL), Bytes(None), long, {"prompt": "ab"}, "ids")
    shown = capsys.readouterr()
    assert len(shown.out.split()) == MODEL.context and shown.err.count("\n") == 1
    assert "30 new tokens instead of 200" in shown.err and "context of 32" in shown.err
    with pytest.raises(UserError, match="200 new ones do not fit into 32"):
        sample_command(MODEL, parameters(MODEL), Bytes(None), long, {"prompt": "ab"}, "ids", exact=True)
    with pytest.raises(UserError, match="do not fit"):
        sample_command(MODEL, parameters(MODEL), Bytes(None), long, {"prompt": "a" * 33}, "ids")


def test_every_prompt_is_continued_to_the_end_of_the_context(capsys):
    long = replace(SAMPLE, max_new_tokens=200)
    alone = [continuations(MODEL, parameters(MODEL), Bytes(None), replace(long, prompts=("a" * 20,)))]
    both = continuations(MODEL, parameters(MODEL), Bytes(None), replace(long, prompts=("a" * 20, "b")))
    assert both[0] == alone[0][0] and len(Bytes().encode(both[1])) >= 31


def test_samples_after_training_keep_to_the_context():
    (written,) = continuations(
        MODEL, parameters(MODEL), Bytes(None), replace(SAMPLE, max_new_tokens=500, prompts=("ab",))
    )
    assert written.startswith("ab")


def test_seeds_go_round_beyond_32_bits():
    last = replace(SAMPLE, seed=2**32 - 1, prompts=("ab", "ab"))
    rows = continuations(MODEL, parameters(MODEL), Bytes(), last)
    first = continuations(MODEL, parameters(MODEL), Bytes(), replace(SAMPLE, seed=0, prompts=("ab",)))
    folded = continuations(MODEL, parameters(MODEL), Bytes(), replace(SAMPLE, seed=2**32, prompts=("ab",)))
    assert rows[0] != rows[1] and rows[1:] == first != folded
