"""What a user writes where a name or a call is wanted, and the call that the error proposes."""

import pytest

from gpt_jax import registry
from gpt_jax.errors import UserError

FILES = {
    "mine.txt": "text(path={path!r})",
    "notes.md": "text(path={path!r})",
    "noending": "text(path={path!r})",
    "ids.bin": "tokens(path={path!r}, vocab=…)",
    "ids.npy": "tokens(path={path!r}, vocab=…)",
    "prose/": "text(path={path!r})",
    "shards/": "tokens(path={path!r}, vocab=…)",
}


@pytest.fixture
def files(tmp_path):
    for name in FILES:
        if name.endswith("/"):
            (tmp_path / name).mkdir()
        else:
            (tmp_path / name).write_text("words")
    (tmp_path / "prose" / "one.txt").write_text("words")
    (tmp_path / "shards" / "train.bin").write_text("words")
    return tmp_path


def hint(kind: str, call: str) -> str:
    with pytest.raises(UserError) as caught:
        registry.build(kind, call, where="config.here")
    assert caught.value.where == "config.here"
    return caught.value.fix


@pytest.mark.parametrize("name", FILES)
def test_a_path_alone_is_answered_with_the_call_that_reads_it(name, files):
    path = f"{files}/{name}"
    assert hint("data.sources", path) == f"did you mean {FILES[name].format(path=path)}?"


def test_a_path_of_a_single_word_is_found_too(files, monkeypatch):
    monkeypatch.chdir(files)
    assert hint("data.sources", "prose") == "did you mean text(path='prose')?"
    assert hint("data.sources", "mine.txt") == "did you mean text(path='mine.txt')?"


def test_paths_that_do_not_exist_are_told_apart_by_their_ending():
    assert hint("data.sources", "/no/where.bin") == "did you mean tokens(path='/no/where.bin', vocab=…)?"
    assert hint("data.sources", "rows.jsonl") == "did you mean jsonl(path='rows.jsonl')?"
    assert hint("data.sources", "~/texts/") == "did you mean text(path='~/texts/')?"


def test_tokenizers_have_their_own_files(tmp_path):
    (tmp_path / "encoder.json").write_text("{}")
    assert hint("data.tokenizers", "llama/tokenizer.json") == "did you mean file(path='llama/tokenizer.json')?"
    assert hint("data.tokenizers", str(tmp_path)) == f"did you mean gpt2(path={str(tmp_path)!r})?"
    assert hint("data.tokenizers", "notes.txt") == ""


@pytest.mark.parametrize(
    "kind, call, proposed",
    [
        ("data.sources", "text(path=/x/mine.txt)", "text(path='/x/mine.txt')"),
        ("data.sources", "text('/x/mine.txt')", "text(path='/x/mine.txt')"),
        ("data.sources", "tokens('/x/a.bin', vocab=300)", "tokens(path='/x/a.bin', vocab=300)"),
        ("train.schedules", "cosine(0.1)", "cosine(final=0.1)"),
    ],
)
def test_arguments_without_quotes_or_names_are_completed(kind, call, proposed):
    assert proposed in hint(kind, call)


@pytest.mark.parametrize("kind, call", [("model.attention", "full("), ("data.sources", "text("), ("model.norm", "a/b")])
def test_nothing_is_proposed_where_nothing_fits(kind, call):
    assert hint(kind, call) == ""


def test_a_name_longer_than_a_path_may_be_is_an_error_of_the_user():
    assert hint("data.sources", "x" * 5000) == ""
