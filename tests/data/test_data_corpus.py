"""The cache: written once, whole or not used; documents split, joined and found again."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from gpt_jax.data import cache, corpus
from gpt_jax.data.corpus import open_corpus
from gpt_jax.data.documents import Documents, from_files
from gpt_jax.data.open import open_data
from gpt_jax.data.tokenizers.bytes import Bytes
from gpt_jax.data.tokenizers.chars import Chars
from gpt_jax.errors import UserError


def documents(folder: Path, texts: dict[str, str]) -> Documents:
    folder.mkdir(exist_ok=True)
    for name, text in texts.items():
        (folder / name).write_text(text, "utf-8")
    return from_files([folder / name for name in sorted(texts)], sorted(texts))


@pytest.fixture
def docs(tmp_path) -> Documents:
    return documents(tmp_path / "docs", {f"{i}.txt": f"<{i}>" * (i + 1) for i in range(40)} | {"empty.txt": ""})


def entry_of(root: Path) -> Path:
    [folder] = [path for path in (root / "corpora").iterdir() if path.is_dir()]
    return folder


def test_documents_are_joined_in_order_with_separators(docs, tmp_path):
    opened = open_corpus(docs, Bytes(), 0.25, tmp_path / "cache")
    train, valid = docs.split(0.25)
    for array, part in ((opened.train, train), (opened.valid, valid)):
        expected = [np.append(np.frombuffer(text.encode(), np.uint8).astype(int), 256) for text in part.texts()]
        assert np.array_equal(array.ids, np.concatenate(expected)) and array.ids.dtype == np.uint16
        assert np.array_equal(array.starts, np.cumsum([0, *map(len, expected)])[:-1])
    assert opened.vocab == 257


def test_chunks_and_pieces_leave_no_trace(docs, tmp_path, monkeypatch):
    whole = open_corpus(docs, Bytes(), 0.25, tmp_path / "one")
    monkeypatch.setattr(corpus, "CHUNK", 7)
    monkeypatch.setattr("gpt_jax.data.tokenizers.bytes.PIECE", 5)
    parts = open_corpus(docs, Bytes(), 0.25, tmp_path / "two")
    assert np.array_equal(whole.train.ids, parts.train.ids) and np.array_equal(whole.train.starts, parts.train.starts)


def test_split_is_by_name_and_stable(docs, tmp_path):
    train, valid = docs.split(0.25)
    assert not set(train.names) & set(valid.names) and set(train.names) | set(valid.names) == set(docs.names)
    assert 0.1 < len(valid.names) / len(docs.names) < 0.4 and "empty.txt" not in docs.names
    more = documents(tmp_path / "more", {f"{i}.txt": "x" for i in range(80)})
    more_train, more_valid = more.split(0.25)
    assert set(train.names) <= set(more_train.names) and set(valid.names) <= set(more_valid.names)


@pytest.mark.parametrize("fraction", [1e-9, 1 - 1e-9])
def test_neither_side_is_empty(docs, fraction):
    train, valid = docs.split(fraction)
    assert train.names and valid.names


def test_one_text_is_split_by_position_as_nanogpt_does(shakespeare, make_config):
    data = open_data(make_config(source=f"text(path={str(shakespeare)!r})", tokenizer="chars", context=64))
    text = shakespeare.read_text("utf-8")
    assert (data.vocab, data.train.tokens, data.valid.tokens) == (65, 1_003_854, 111_540)
    assert data.tokenizer is not None and data.tokenizer.separator is None
    first, second = data.train.fixed(1, 2), data.valid.fixed(1, 1)
    assert data.tokenizer.decode(first[1]["tokens"][0]) == text[64:128]
    assert data.tokenizer.decode(second[0]["tokens"][0]) == text[1_003_854:][:64]


def test_tokenised_once(docs, tmp_path, monkeypatch):
    first = open_corpus(docs, Bytes(), 0.25, tmp_path / "cache")
    monkeypatch.setattr(corpus, "_write", lambda *_: pytest.fail("tokenised again"))
    again = open_corpus(docs, Bytes(), 0.25, tmp_path / "cache")
    assert np.array_equal(first.train.ids, again.train.ids) and first.digest == again.digest


def test_whatever_changes_the_tokens_changes_the_key(docs, tmp_path, monkeypatch):
    def key(source: Documents, tokenizer, fraction: float) -> str:
        return open_corpus(source, tokenizer, fraction, tmp_path / "cache").digest

    keys = [key(docs, Bytes(), 0.25), key(docs, Bytes(), 0.5), key(docs, Chars("0123456789<>", True), 0.25)]
    (tmp_path / "docs" / "7.txt").write_text("<8>" * 8)  # the same size
    changed = from_files([tmp_path / "docs" / name for name in docs.names], list(docs.names))
    keys.append(key(changed, Bytes(), 0.25))
    monkeypatch.setattr(corpus, "FORMAT", corpus.FORMAT + 1)
    keys.append(key(docs, Bytes(), 0.25))
    assert len(set(keys)) == 5


def cut(entry: Path) -> None:
    os.truncate(entry / "train.ids", 10)


def flip(entry: Path) -> None:
    data = bytearray((entry / "valid.ids").read_bytes())
    data[3] ^= 1
    (entry / "valid.ids").write_bytes(bytes(data))


def lose(entry: Path) -> None:
    (entry / "valid.starts").unlink()


def lose_manifest(entry: Path) -> None:
    (entry / cache.MANIFEST).unlink()


def tear_manifest(entry: Path) -> None:
    text = (entry / cache.MANIFEST).read_text()
    (entry / cache.MANIFEST).write_text(text[: len(text) // 2])


@pytest.mark.parametrize("damage", [cut, flip, lose, lose_manifest, tear_manifest])
def test_a_damaged_entry_is_rebuilt(docs, tmp_path, damage):
    good = open_corpus(docs, Bytes(), 0.25, tmp_path / "cache")
    before = {name: getattr(good, name).ids.copy() for name in ("train", "valid")}
    damage(entry_of(tmp_path / "cache"))
    assert not cache.is_complete(entry_of(tmp_path / "cache"))
    again = open_corpus(docs, Bytes(), 0.25, tmp_path / "cache")
    assert all(np.array_equal(getattr(again, name).ids, ids) for name, ids in before.items())
    assert cache.is_complete(entry_of(tmp_path / "cache"))


def test_a_failed_build_leaves_nothing_and_the_next_succeeds(tmp_path):
    def fail(folder: Path) -> None:
        (folder / "half").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.entry(tmp_path, "k", fail)
    assert [path.name for path in tmp_path.iterdir()] == ["k.lock"]
    (tmp_path / "k.building-0123").mkdir()  # what a killed process leaves
    entry = cache.entry(tmp_path, "k", lambda folder: (folder / "whole").write_text("whole"))
    assert sorted(path.name for path in entry.iterdir()) == [cache.MANIFEST, "whole"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["k", "k.lock"]
    assert json.loads((entry / cache.MANIFEST).read_text())["whole"][0] == 5


BUILDER = """
import sys, time
from pathlib import Path
from gpt_jax.data import cache

def build(folder):
    (folder / "a").write_text("a" * 1000)
    with open(sys.argv[2], "a") as log:
        log.write("built ")
    time.sleep(float(sys.argv[3]))
    (folder / "b").write_text("b")

entry = cache.entry(Path(sys.argv[1]), "k", build)
assert (entry / "a").read_text() == "a" * 1000 and (entry / "b").read_text() == "b"
"""


def start_builder(tmp_path: Path, seconds: float) -> subprocess.Popen:
    argv = [sys.executable, "-c", BUILDER, str(tmp_path / "cache"), str(tmp_path / "log"), str(seconds)]
    return subprocess.Popen(argv, env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])})


def test_builders_at_once_build_once(tmp_path):
    processes = [start_builder(tmp_path, 0.5) for _ in range(4)]
    assert [process.wait(60) for process in processes] == [0] * 4
    assert (tmp_path / "log").read_text() == "built "


def test_a_killed_builder_is_survived(tmp_path):
    victim = start_builder(tmp_path, 60)
    while not (tmp_path / "log").exists():
        assert victim.poll() is None
    victim.kill()
    victim.wait(60)
    assert start_builder(tmp_path, 0).wait(60) == 0
    assert sorted(path.name for path in (tmp_path / "cache").iterdir()) == ["k", "k.lock"]


def test_a_cache_that_cannot_be_written(make_config, tmp_path):
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "a.txt").write_text("text " * 100)
    config = make_config(
        source=f"text(path={str(tmp_path / 'a.txt')!r})", tokenizer="bytes", cache=str(tmp_path / "file")
    )
    with pytest.raises(UserError, match="cache cannot be written") as error:
        open_data(config)
    assert "config.data.cache" in error.value.where


def test_several_documents_need_a_separator(docs, tmp_path):
    with pytest.raises(UserError, match="no token to put between documents"):
        open_corpus(docs, Chars("0123456789<>", False), 0.25, tmp_path / "cache")


def test_segments_follow_documents(docs, make_config, tmp_path):
    data = open_data(
        make_config(source=f"text(path={str(tmp_path / 'docs')!r})", tokenizer="bytes", pack="segments", context=32)
    )
    for k in range(20):
        batch = data.train.batches(4, 0)[k]
        for tokens, segments, weights in zip(batch["tokens"], batch["segments"], batch["weights"], strict=True):
            after_separator = np.append(0, tokens[:-1] == 256)
            assert np.array_equal(segments, 1 + np.cumsum(after_separator))
            assert np.array_equal(weights, (tokens != 256).astype(np.float32))


def test_fingerprint_follows_content_tokenizer_and_packing(docs, make_config, tmp_path):
    source = f"text(path={str(tmp_path / 'docs')!r})"
    prints = [
        open_data(make_config(source=source, **knobs)).fingerprint
        for knobs in (
            {"tokenizer": "bytes"},
            {"tokenizer": "chars"},
            {"tokenizer": "bytes", "pack": "segments"},
            {"tokenizer": "bytes", "valid_fraction": 0.5},
        )
    ]
    shutil.rmtree(tmp_path / "cache")
    assert open_data(make_config(source=source, tokenizer="bytes")).fingerprint == prints[0]
    assert len(set(prints)) == 4
