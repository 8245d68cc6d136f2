"""Rows of examples from files: spellings, what is said about bad ones, the sides, and the windows made of them."""

import json

import numpy as np
import pytest

from gpt_jax import registry
from gpt_jax.data.documents import Documents
from gpt_jax.data.open import open_data
from gpt_jax.data.rows.fields import BadRow, row_of
from gpt_jax.errors import UserError
from tests.data.refusals import refused

ASKED = {"role": "user", "content": "Hi"}
SAID = {"role": "assistant", "content": "Yes"}
OTHER = {"role": "assistant", "content": "No"}


def written(path, rows) -> str:
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    return f"jsonl(path={str(path)!r})"


def read(make_config, call, **data):
    config = make_config(**data)
    return registry.build("data.sources", call, config)


SPELLINGS = [
    # Alpaca
    (
        {"instruction": "Add.", "input": "1 2", "output": "3"},
        {"prompt": "Add.\n\n1 2", "completion": "3"},
    ),
    ({"instruction": "Say A.", "input": "", "output": "A"}, {"prompt": "Say A.", "completion": "A"}),
    # Dolly
    (
        {"instruction": "Who?", "context": "Ann.", "response": "Ann"},
        {"prompt": "Who?\n\nAnn.", "completion": "Ann"},
    ),
    ({"prompt": "a", "response": "b", "input": 7}, {"prompt": "a", "completion": "b", "input": 7}),
    ({"input": "a", "target": "b"}, {"prompt": "a", "completion": "b"}),
    # GSM8K
    ({"question": "1+1", "answer": "2"}, {"prompt": "1+1", "answer": "2"}),
    ({"question": "1+1", "answer": 2}, {"prompt": "1+1", "answer": "2"}),
    # ShareGPT
    (
        {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Yes"}]},
        {"messages": [ASKED, SAID]},
    ),
    # OpenAI
    ({"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}, SAID]}, {"messages": [ASKED, SAID]}),
    (
        {"system": "Be kind.", "prompt": "Hi", "completion": "Yes"},
        {"prompt": [{"role": "system", "content": "Be kind."}, ASKED], "completion": "Yes", "system": "Be kind."},
    ),
    # UltraFeedback, and TRL's implicit prompts
    (
        {"prompt": "Hi", "chosen": [ASKED, SAID], "rejected": [ASKED, OTHER]},
        {"prompt": [ASKED], "chosen": [SAID], "rejected": [OTHER]},
    ),
    (
        {"prompt": "Hi", "chosen": [SAID], "rejected": [OTHER]},
        {"prompt": "Hi", "chosen": [SAID], "rejected": [OTHER]},
    ),
    (
        {"chosen": "Human: hi Assistant: yes", "rejected": "Human: hi Assistant: yet no"},
        {"prompt": "Human: hi Assistant:", "chosen": " yes", "rejected": " yet no"},
    ),
    (
        {"prompt": "Hi", "chosen": [SAID, ASKED, OTHER], "rejected": [SAID, ASKED, SAID]},
        {"prompt": "Hi", "chosen": [SAID, ASKED, OTHER], "rejected": [SAID, ASKED, SAID]},
    ),
    (
        {"chosen": [ASKED, SAID], "rejected": [{"role": "user", "content": "Ho"}, SAID]},
        {"prompt": [], "chosen": [ASKED, SAID], "rejected": [{"role": "user", "content": "Ho"}, SAID]},
    ),
    ({"prompt": "cut \ud83d", "completion": "b"}, {"prompt": "cut \ufffd", "completion": "b"}),
    ({"chosen": "yes", "rejected": "no"}, {"prompt": "", "chosen": "yes", "rejected": "no"}),
    ({"prompt": "a", "completion": "b", "label": 0}, {"prompt": "a", "completion": "b", "label": False}),
    # Hugging Face's name of a class
    ({"text": "a", "label": 2}, {"text": "a", "class": 2}),
    ({"text": "a", "label": "good"}, {"text": "a", "class": "good"}),
    ({"prompt": "a", "options": ["b", "c"], "class": 1}, {"prompt": "a", "options": ["b", "c"], "class": 1}),
    ({"texts": ["a", "b"], "class": 0}, {"texts": ["a", "b"], "class": 0}),
]


@pytest.mark.parametrize("given, wanted", SPELLINGS)
def test_spellings_of_fields(given, wanted):
    assert row_of(given, {}) == wanted


def test_fields_that_are_named():
    row = row_of({"q": "a", "prompt": "old", "a": "b"}, {"prompt": "q", "completion": "a"})
    assert (row["prompt"], row["completion"]) == ("a", "b")
    with pytest.raises(BadRow, match="no field 'p'"):
        row_of({"q": "a"}, {"prompt": "p"})


GOOD = {"prompt": "a", "completion": "b"}
BAD = [
    ("not json", "is not JSON"),
    ('{"prompt": "a"', "is not JSON"),
    ("[" * 100_000, "is not JSON"),
    ('{"n": ' + "9" * 5000 + "}", "is not JSON"),
    ("[1]", "is not a JSON object"),
    ('{"text": "a\0b"}', "has NUL bytes"),
    ({"answer": "a"}, "no example has the fields answer alone"),
    ({}, "no example has the fields"),
    ({"prompt": 5, "completion": "b"}, "prompt is int '5'"),
    ({"prompt": "a", "completion": None}, "completion is null"),
    ({"messages": "Hi"}, "messages is str 'Hi'"),
    ({"messages": []}, "messages is a list"),
    ({"messages": ["Hi"]}, "message 1 of messages is str"),
    ({"messages": [ASKED, {"role": "assistant"}]}, "content of message 2 of messages is null"),
    ({"messages": [ASKED, {"role": "assistant", "content": 1}]}, "content of message 2 of messages is int"),
    ({"messages": [{"role": "tool", "content": "x"}]}, "message 1 of messages has the role 'tool'"),
    ({"prompt": "a", "completion": "b", "label": "yes"}, "label is str 'yes'"),
    ({"prompt": "a", "completion": "b", "label": 2}, "label is int '2'"),
    ({"text": "a", "class": -1}, "class is int '-1'"),
    ({"text": "a", "class": True}, "class is bool"),
    ({"text": "a", "class": 1.5}, "class is float '1.5'"),
    ({"text": ["a"], "class": 0}, "text is a list"),
    ({"texts": ["a", 1], "class": 0}, "a part of texts is int"),
    ({"prompt": "a", "answer": 1.5}, "answer is float"),
    ({"prompt": "a", "chosen": "b", "rejected": 3}, "rejected is int"),
]


@pytest.mark.parametrize("line, message", BAD, ids=range(len(BAD)))
def test_a_bad_line_is_named(line, message, make_config, tmp_path):
    source = written(tmp_path / "rows.jsonl", [GOOD, "", line, GOOD])
    error = refused(make_config(source=source, tokenizer="bytes"), message)
    assert "rows.jsonl, line 3" in error.what and "line 3" in error.where


def test_a_line_that_is_not_utf8(make_config, tmp_path):
    (tmp_path / "rows.jsonl").write_bytes(b'{"text": "a"}\n{"text": "caf\xe9"}\n')
    source = make_config(source=f"jsonl(path={str(tmp_path / 'rows.jsonl')!r})", tokenizer="bytes")
    refused(source, r"line 2 is not UTF-8: .* at byte 13 \(0xe9\)")


def test_files_that_are_missing_or_empty(make_config, tmp_path):
    def config(path, **more):
        return make_config(source=f"jsonl(path={str(path)!r})", tokenizer="bytes")

    refused(config(tmp_path / "none.jsonl"), "does not exist")
    refused(config(tmp_path), "is a folder without .jsonl files")
    (tmp_path / "empty.jsonl").write_text("\n\n")
    refused(config(tmp_path / "empty.jsonl"), "has no rows")
    (tmp_path / "empty.jsonl").write_text(f"{json.dumps(GOOD)}\n" * 3)
    refused(config(tmp_path / "empty.jsonl"), "has one row, or several that are equal")


def test_a_folder_a_glob_and_a_byte_order_mark(make_config, tmp_path):
    for number, name in enumerate(("b.jsonl", "deep/a.jsonl", "c.txt")):
        path = tmp_path / "in" / name
        path.parent.mkdir(exist_ok=True, parents=True)
        lines = [json.dumps({"prompt": f"{number} {i}", "completion": "é"}, ensure_ascii=False) for i in range(20)]
        path.write_text("\n".join(lines), "utf-8-sig")

    def found(path):
        source = read(make_config, f"jsonl(path={str(path)!r})")
        return sorted(row["prompt"] for row in (*source.train, *source.valid)), source

    whole, source = found(tmp_path / "in")
    assert len(whole) == 40 and found(tmp_path / "in/**/*.jsonl")[0] == whole
    assert len(found(tmp_path / "in/*.txt")[0]) == 20
    places = {source.train[i]["prompt"]: source.places[0][i] for i in range(len(source.train))}
    assert all(place.endswith(f", line {int(prompt.split()[1]) + 1}") for prompt, place in places.items())


def test_equal_rows_share_a_side(make_config, tmp_path):
    rows = [{"prompt": f"p{i % 50}", "completion": "c"} for i in range(400)]
    call = written(tmp_path / "rows.jsonl", rows)
    source = read(make_config, call, valid_fraction=0.3)
    train, valid = ({row["prompt"] for row in side} for side in (source.train, source.valid))
    assert len(train) + len(valid) == 50 and not train & valid and 5 < len(valid) < 25
    again = read(make_config, written(tmp_path / "rows.jsonl", [*rows[::-1], {"prompt": "new", "completion": "c"}]))
    assert again.digest != source.digest
    assert {row["prompt"] for row in read(make_config, call, valid_fraction=0.3).valid} - {"new"} == valid


def test_validation_from_a_file_of_its_own(make_config, tmp_path):
    rows = [{"prompt": f"p{i}", "completion": "c"} for i in range(30)]
    written(tmp_path / "train.jsonl", rows[:20])
    written(tmp_path / "valid.jsonl", rows[20:])
    call = f"jsonl(path={str(tmp_path / 'train.jsonl')!r}, valid={str(tmp_path / 'valid.jsonl')!r})"
    source = read(make_config, call)
    assert [len(source.train), len(source.valid)] == [20, 10]
    written(tmp_path / "valid.jsonl", rows[19:])
    error = refused(make_config(source=call, tokenizer="bytes"), "1 of the rows for validation")
    assert "valid.jsonl, line 1" in error.what and "train.jsonl, line 20" in error.what


def test_texts_alone_are_running_text(make_config, tmp_path):
    rows = [{"text": f"post {i} is about the number {i}. " * 20} for i in range(40)]
    call = written(tmp_path / "rows.jsonl", rows)
    source = read(make_config, call)
    assert isinstance(source, Documents)
    data = open_data(make_config(source=call, tokenizer="bytes", context=16))
    assert data.train.tokens + data.valid.tokens == sum(len(row["text"]) + 1 for row in rows)
    held = {source.heldout.read(i) for i in range(len(source.heldout.names))}
    assert held and not held & set(source.texts())


def examples_of(data, split):
    """(text before, text that is learned) of every example of a split."""
    found = []
    batches = split.fixed(1, 0)
    for k in range(len(batches)):
        row = {name: value[0] for name, value in batches[k].items()}
        for number in range(1, row["segments"].max() + 1):
            inside = row["segments"] == number
            assert np.array_equal(row["positions"][inside], np.arange(inside.sum()))
            tokens, targets, counted = (row[name][inside] for name in ("tokens", "targets", "weights"))
            assert np.array_equal(tokens[1:], targets[:-1])
            whole = np.append(tokens, targets[-1])
            learned = np.append(False, counted > 0)
            found.append((data.tokenizer.decode(whole[~learned]), data.tokenizer.decode(whole[learned])))
        assert not row["weights"][row["segments"] == 0].any()
    return found


def test_what_is_learned_of_each_shape(make_config, tmp_path):
    shapes = [
        ({"prompt": "ask{}", "completion": "say"}, "ask{}", "say<|endoftext|>"),
        ({"prompt": "ask{}", "answer": "42"}, "ask{}", "42<|endoftext|>"),
        ({"prompt": "ask{}", "chosen": "good", "rejected": "bad"}, "ask{}", "good<|endoftext|>"),
        ({"prompt": "ask{}", "completion": "good", "label": True}, "ask{}", "good<|endoftext|>"),
        ({"text": "whole{}"}, "w", "hole{}<|endoftext|>"),
        ({"text": "classed{}", "class": 1}, "c", "lassed{}<|endoftext|>"),
        ({"messages": [{"role": "user", "content": "Q{}"}, SAID]}, "Q{}", "Yes<|endoftext|>"),
    ]
    rows, wanted = [], []
    for i in range(30):
        for row, before, learned in shapes:
            rows.append(json.dumps(row).replace("{}", str(i)))
            wanted.append((before.replace("{}", str(i)), learned.replace("{}", str(i))))
    rows += [{"prompt": f"ask{i}", "completion": "bad", "label": False} for i in range(9)]
    rows += [{"prompt": "long" * 30, "completion": str(i)} for i in range(4)]
    data = open_data(make_config(source=written(tmp_path / "r.jsonl", rows), tokenizer="bytes", context=64))
    assert sorted(examples_of(data, data.train) + examples_of(data, data.valid)) == sorted(wanted)
    assert data.notes == (
        "4 examples do not fit into 64 tokens and are left out; 9 are labelled as not wanted and are left out",
    )


def test_rows_that_are_all_unwanted_are_named(make_config, tmp_path):
    rows = [{"prompt": f"ask{i}", "completion": "bad", "label": False} for i in range(9)]
    with pytest.raises(UserError, match="all . rows are labelled as unwanted"):
        open_data(make_config(source=written(tmp_path / "r.jsonl", rows), tokenizer="bytes", context=64))


@pytest.mark.parametrize("tokenizer", ["chars", "bpe(vocab_size=270)"])
def test_tokenizers_are_made_from_all_that_rows_say(tokenizer, make_config, tmp_path):
    rows = [
        {"messages": [{"role": "user", "content": f"αβγ{i}"}, {"role": "assistant", "content": "αβδ"}], "note": "ж"}
        for i in range(20)
    ] + [{"prompt": f"αβε{i}", "completion": "αβζ", "options": ["η"]} for i in range(20)]
    data = open_data(make_config(source=written(tmp_path / "r.jsonl", rows), tokenizer=tokenizer, context=64))
    found = data.tokenizer.decode(data.tokenizer.encode("αβγδεζη0123456789"))
    assert found == "αβγδεζη0123456789"
    if tokenizer == "chars":
        with pytest.raises(Exception, match="does not occur"):
            data.tokenizer.encode("ж")
    else:
        assert len(data.tokenizer.encode("αβ")) < 4  # merges are made from prompts as well


def test_examples_mixed_with_running_text(make_config, tmp_path):
    rows = [{"prompt": f"p{i}", "completion": "c"} for i in range(60)]
    (tmp_path / "t.txt").write_text("running text " * 200)
    sources = (
        (0.5, written(tmp_path / "r.jsonl", rows)),
        (0.25, f"text(path={str(tmp_path / 't.txt')!r})"),
        (0.25, "arithmetic(count=100, valid=20)"),
    )
    data = open_data(make_config(source=sources, tokenizer="bytes", context=24))
    batch = data.train.batches(16, 0)[0]
    assert sorted(batch) == ["examples", "positions", "segments", "targets", "tokens", "weights"]
    assert (batch["examples"] == 0).sum() == 4 and data.segmented
    running = batch["examples"] == 0
    assert (batch["weights"][running].sum(1) >= 23).all() and (batch["segments"][running] == 1).all()
    assert data.byte_lengths is None


def test_packing_fills_rows_and_keeps_each_example_once(make_config, tmp_path):
    rows = [{"prompt": f"{i:03}", "completion": "c" * (1 + i % 9)} for i in range(200)]
    call = written(tmp_path / "r.jsonl", rows)
    packed, padded = (
        open_data(make_config(source=call, tokenizer="bytes", context=32, pack=p)) for p in ("concat", "padded")
    )
    assert sorted(examples_of(packed, packed.train)) == sorted(examples_of(padded, padded.train))
    assert packed.train.tokens == padded.train.tokens
    rows_of = [data.train.windows[0].count for data in (packed, padded)]
    assert packed.train.tokens / (32 * rows_of[0]) > 0.9 and rows_of[1] == len(examples_of(padded, padded.train))
