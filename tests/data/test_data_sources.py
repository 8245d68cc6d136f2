"""Sources of text, and what they say about bad input."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from gpt_jax import registry
from gpt_jax.data.open import open_data
from gpt_jax.data.sources.python_stdlib import python_stdlib
from tests.data.refusals import refused


def text(path) -> str:
    return f"text(path={str(path)!r})"


def test_standard_library_without_tests_and_generated_files(make_config):
    documents = python_stdlib(make_config())
    names = set(documents.names)
    assert {"argparse.py", "json/decoder.py", "asyncio/events.py", "encodings/utf_8.py"} <= names
    assert not [name for name in names if {"test", "tests", "idle_test", "site-packages"} & set(name.split("/"))]
    assert not {"pydoc_data/topics.py", "encodings/cp1252.py", "encodings/cp037.py", "stringprep.py"} & names
    assert not [name for name in names if "_sysconfigdata" in name]
    assert documents.names == tuple(sorted(names)) and len(names) > 300
    train, valid = documents.split(0.1)
    sizes = [sum(len(part.read(i)) for i in range(len(part.names))) for part in (train, valid)]
    assert 0.03 < sizes[1] / sum(sizes) < 0.25


def test_standard_library_opens_and_is_the_same_again(make_config):
    config = make_config(source="python_stdlib()", tokenizer="bytes", context=64)
    one, two = open_data(config), open_data(config)
    assert one.fingerprint == two.fingerprint and one.train.tokens > 5_000_000
    assert np.array_equal(one.train.batches(4, 0)[9]["tokens"], two.train.batches(4, 0)[9]["tokens"])


def test_a_text_that_is_read_a_thousand_times_is_named(make_config, tmp_path):
    """A preset of a large model brings no data, and the default is small."""
    (tmp_path / "a.txt").write_text("some text. " * 100)
    config = make_config(source=f"text(path={str(tmp_path / 'a.txt')!r})", tokenizer="bytes")
    assert open_data(config).notes == ()
    (note,) = open_data(dataclasses.replace(config, train=dataclasses.replace(config.train, steps=600_000))).notes
    assert "600,000 steps read this text about" in note


def test_folder_and_glob(make_config, tmp_path):
    (tmp_path / "in" / ".hidden").mkdir(parents=True)
    for name in ("a.md", "in/b.txt", "in/c.md", "in/.hidden/d.md"):
        (tmp_path / name).write_text(f"{name} " * 40)
    folder = open_data(make_config(source=text(tmp_path), tokenizer="bytes", cache=str(tmp_path) + "-cache"))
    glob = open_data(make_config(source=text(tmp_path / "**/*.md"), tokenizer="bytes", cache=str(tmp_path) + "-cache"))
    size = {name: len(name) * 40 + 41 for name in ("a.md", "in/b.txt", "in/c.md")}
    assert folder.train.tokens + folder.valid.tokens == sum(size.values())
    assert glob.train.tokens + glob.valid.tokens == size["a.md"] + size["in/c.md"]


def test_bad_text(make_config, tmp_path):
    def config(path):
        return make_config(source=text(path), tokenizer="bytes")

    refused(config(tmp_path / "nothing.txt"), "does not exist")
    (tmp_path / "folder").mkdir()
    refused(config(tmp_path / "folder"), "folder without files")
    (tmp_path / "folder" / "empty.txt").touch()
    refused(config(tmp_path / "folder"), "is empty")
    (tmp_path / "latin.txt").write_bytes(b"abcd caf\xe9 au lait")
    error = refused(config(tmp_path / "latin.txt"), r"latin.txt is not UTF-8: .* at byte 8 \(0xe9\)")
    assert "latin.txt, byte 8" in error.where
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\0\0")
    refused(
        config(tmp_path / "picture.png"),
        "picture.png is UTF-16 or a binary file: 2 of its 6 bytes are NUL, the first is byte 4",
    )
    (tmp_path / "wide.txt").write_bytes("plain text".encode("utf-16"))
    refused(config(tmp_path / "wide.txt"), "wide.txt is")
    (tmp_path / "short.txt").write_text("0123456789" * 2)
    error = refused(config(tmp_path / "short.txt"), "context = 8 is longer than the valid split, which has 2 tokens")
    assert error.where == "config.model.context"


def test_every_file_is_checked_before_any_is_tokenised(make_config, tmp_path, monkeypatch):
    for i in range(20):
        (tmp_path / f"{i:02}.txt").write_bytes(b"caf\xe9 au lait" if i == 19 else b"plain text\n" * 20)
    monkeypatch.setattr("gpt_jax.data.open.open_corpus", lambda *_: pytest.fail("tokenised"))
    monkeypatch.setattr("gpt_jax.data.tokenizers.bpe._train", lambda *_: pytest.fail("trained"))
    source = make_config(source=f"text(path={str(tmp_path)!r})", tokenizer="bpe(vocab_size=260)")
    refused(source, r"19.txt is not UTF-8")


@pytest.mark.parametrize("tokenizer", ["bytes", "chars", "bpe(vocab_size=260)"])
def test_a_nul_in_a_text_is_a_character(make_config, tmp_path, tokenizer):
    text = "plain text\n" * 40 + "one\0two" + "plain text\n" * 40
    (tmp_path / "a.txt").write_text(text)
    data = open_data(make_config(source=f"text(path={str(tmp_path / 'a.txt')!r})", tokenizer=tokenizer))
    assert data.tokenizer.decode(data.tokenizer.encode(text)) == text


def test_unknown_source(make_config):
    assert "did you mean 'text'?" in str(refused(make_config(source="texts(path='a')"), "there is no data.sources"))
    assert "arguments of text: path" in str(refused(make_config(source="text(file='a')"), "cannot be built"))


@pytest.fixture
def example():
    """The docs' example source, registered for one test."""
    page = (Path(__file__).resolve().parents[2] / "docs/data.md").read_text("utf-8")
    code = page.split("## Your own source in one file")[1].split("```python\n")[1].split("```")[0]
    exec(compile(code, "posts.py", "exec"), {})
    yield
    del registry._variants["data.sources", "posts"]


def test_the_example_of_the_docs_works(example, make_config, tmp_path):
    path = tmp_path / "posts.jsonl"
    path.write_text("\n".join(json.dumps({"text": f"post {i} is about the number {i}"}) for i in range(50)))
    data = open_data(make_config(source=f"posts(path={str(path)!r})", tokenizer="bpe(vocab_size=270)"))
    assert data.tokenizer is not None and data.vocab == 270
    assert "is about" in data.tokenizer.decode(data.train.batches(8, 0)[0]["tokens"].ravel())
