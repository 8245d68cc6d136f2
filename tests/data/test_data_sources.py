"""Sources of text and tokens, and what they say about bad input."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from gpt_jax import registry
from gpt_jax.data.open import open_data
from gpt_jax.data.sources.python_stdlib import python_stdlib
from gpt_jax.errors import UserError


def text(path) -> str:
    return f"text(path={str(path)!r})"


def refused(config, match: str) -> UserError:
    with pytest.raises(UserError, match=match) as error:
        open_data(config)
    return error.value


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


def llmc(path, ids, magic=20240520, version=1, dtype=np.uint16, count=None):
    header = np.zeros(256, np.int32)
    header[:3] = magic, version, len(ids) if count is None else count
    path.write_bytes(header.tobytes() + np.asarray(ids, dtype).tobytes())


def test_token_files(make_config, tmp_path):
    ids = np.arange(1000) % 500
    nano, llm, llama = tmp_path / "nano", tmp_path / "llm", tmp_path / "llama"
    for folder in (nano, llm, llama):
        folder.mkdir()
    ids[:900].astype(np.uint16).tofile(nano / "train.bin")
    ids[900:].astype(np.uint16).tofile(nano / "val.bin")
    llmc(llm / "tiny_shakespeare_train.bin", ids[:900])
    llmc(llm / "tiny_shakespeare_val.bin", ids[900:])
    llmc(llama / "train.bin", ids[:900] + 100_000, 20240801, 7, np.uint32)
    llmc(llama / "val.bin", ids[900:] + 100_000, 20240801, 7, np.uint32)
    ids.astype(np.uint16).tofile(tmp_path / "whole.bin")
    np.save(tmp_path / "whole.npy", ids.astype(np.uint32))
    places = [(nano, 500), (llm, 500), (tmp_path / "whole.bin", 500), (tmp_path / "whole.npy", 500), (llama, 128_256)]
    opened = [open_data(make_config(source=f"tokens(path={str(path)!r}, vocab={vocab})")) for path, vocab in places]
    for data, extra in zip(opened, (0, 0, 0, 0, 100_000), strict=True):
        assert (data.train.tokens, data.valid.tokens, data.tokenizer) == (900, 100, None)
        assert np.array_equal(data.valid.fixed(1, 1)[0]["tokens"][0], ids[900:908] + extra)
    assert opened[0].vocab == 500


def test_token_documents_end_at_the_separator(make_config, tmp_path, monkeypatch):
    monkeypatch.setattr("gpt_jax.data.sources.tokens.CHUNK", 64)
    ids = np.tile([1, 2, 3, 4, 0], 100).astype(np.uint16)
    ids.tofile(tmp_path / "a.bin")
    path = str(tmp_path / "a.bin")
    data = open_data(make_config(source=f"tokens(path={path!r}, vocab=5, separator=0)", pack="segments", context=7))
    for k in range(20):
        batch = data.train.batches(2, 0)[k]
        assert np.array_equal(batch["weights"], (batch["tokens"] != 0).astype(np.float32))
        inside = batch["segments"] > 1
        assert np.array_equal(batch["positions"][inside], (batch["tokens"][inside] - 1) % 5)
    refused(make_config(source=f"tokens(path={path!r}, vocab=5)", pack="segments"), "where documents end")


def test_bad_token_files(make_config, tmp_path):
    path = tmp_path / "x.bin"

    def config(vocab=100, at=path):
        return make_config(source=f"tokens(path={str(at)!r}, vocab={vocab})")

    refused(config(), "x.bin cannot be read")
    path.touch()
    refused(config(), "is empty")
    path.write_bytes(b"abc")
    refused(config(), "3 bytes, which is no whole number")
    np.array([1, 2, 3, 99, 100, 101] * 10, np.uint16).tofile(path)
    assert refused(config(), "holds the id 100 at token 4").allowed == "ids below vocab = 100"
    llmc(path, np.arange(100))
    open_data(config())
    path.write_bytes(path.read_bytes()[:-1])
    refused(config(), "its header says 100 tokens, so 1224 bytes, and it has 1223")
    llmc(path, np.arange(50), count=0)
    refused(config(), "is damaged")
    llmc(path, np.arange(50), version=3)
    refused(config(), "in version 3")
    (tmp_path / "empty").mkdir()
    refused(config(at=tmp_path / "empty"), r"has no file \*train\*.bin")
    array = tmp_path / "x.npy"
    np.save(array, np.zeros((2, 3), np.uint16))
    refused(config(at=array), "an array 2x3 of uint16")
    np.save(array, np.zeros(3, np.float32))
    refused(config(at=array), "an array 3 of float32")
    np.save(array, np.array([3, -1, 5]))
    refused(config(at=array), "the id -1 at token 1")
    array.write_bytes(array.read_bytes()[:-1])
    refused(config(at=array), "x.npy is damaged")
    np.save(array, np.arange(50))
    array.write_bytes(array.read_bytes().replace(b")", b"(", 1))  # a header that Python cannot read
    refused(config(at=array), "x.npy is damaged")


@pytest.mark.parametrize("stored", ["uint32", "int32", "int64"])
@pytest.mark.parametrize("vocab", [500, 128_256])
def test_wider_ids_than_the_file_says_are_refused_until_their_type_is_given(make_config, tmp_path, stored, vocab):
    path, ids = tmp_path / "x.bin", np.arange(1000) % 500 + (vocab - 500)
    ids.astype(stored).tofile(path)

    def config(**more):
        arguments = "".join(f", {name}={value!r}" for name, value in more.items())
        return make_config(source=f"tokens(path={str(path)!r}, vocab={vocab}{arguments})")

    assert "dtype='uint32'" in refused(config(), "does not say of which type its ids are").fix
    data = open_data(config(dtype=stored))
    assert np.array_equal(data.valid.fixed(1, 1)[0]["tokens"][0], ids[900:908]) and data.train.tokens == 900
    refused(config(dtype="float32"), "no type of ids")


def test_what_a_file_says_of_its_ids_holds(make_config, tmp_path):
    """Whatever its name; and what is no list of ids is named."""
    path = tmp_path / "x.bin"

    def config(**more):
        arguments = "".join(f", {name}={value!r}" for name, value in more.items())
        return make_config(source=f"tokens(path={str(path)!r}, vocab=70000{arguments})")

    with open(path, "wb") as file:
        np.save(file, np.arange(1000) + 66_000)
    assert open_data(config()).train.batches(1, 0)[0]["tokens"].min() >= 66_000
    refused(config(dtype="uint16"), "says that its ids are int64, not uint16")
    llmc(path, np.arange(100))
    refused(config(dtype="uint32"), "says that its ids are uint16, not uint32")
    for start, what in (
        (b"PK\x03\x04", "a zip archive"),
        (b"\x1f\x8b\x08", "a gzip file"),
        (b"PAR1", "a Parquet file"),
    ):
        path.write_bytes(start + b"ab" * 500)
        refused(config(), f"x.bin is {what}")


def test_several_files_are_one_corpus_in_the_order_of_their_names(make_config, tmp_path):
    ids = np.random.default_rng(0).integers(1, 500, 1000)
    ids[::7] = 0
    one, several = tmp_path / "one", tmp_path / "several"
    for folder in (one, several):
        folder.mkdir()
        llmc(folder / "fineweb_val_000000.bin", ids[900:])
    llmc(one / "fineweb_train_000001.bin", ids[:900])
    for i, (begin, end) in enumerate([(0, 300), (300, 303), (303, 900)]):
        llmc(several / f"fineweb_train_{i:06}.bin", ids[begin:end])
    opened = [
        open_data(make_config(source=f"tokens(path={str(folder)!r}, vocab=500, separator=0)", pack="segments"))
        for folder in (one, several)
    ]
    assert opened[0].fingerprint == opened[1].fingerprint
    for k in range(12):
        first, second = (data.train.batches(10, 0)[k] for data in opened)
        assert all(np.array_equal(first[name], second[name]) for name in first)


def test_a_late_id_is_found(make_config, tmp_path, monkeypatch):
    monkeypatch.setattr("gpt_jax.data.sources.tokens.CHUNK", 64)
    ids = np.zeros(1000, np.uint16)
    ids[777] = 7
    ids.tofile(tmp_path / "x.bin")
    refused(make_config(source=f"tokens(path={str(tmp_path / 'x.bin')!r}, vocab=7)"), "holds the id 7 at token 777")


@pytest.fixture(scope="module")
def poems(tmp_path_factory):
    """A TFDS set of the test's own, in array_record files; its folder."""
    tfds = pytest.importorskip("tensorflow_datasets")
    pytest.importorskip("array_record")
    pytest.importorskip("importlib_resources")

    class GptJaxPoems(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = tfds.features.FeaturesDict({"verse": tfds.features.Text(), "year": np.int64})
            return tfds.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples(0, 30), "test": self._generate_examples(30, 40)}

        def _generate_examples(self, low, high):
            for i in range(low, high):
                yield i, {"verse": f"Vers {i}: schöne Grüße " * 3, "year": 1800 + i}

    folder = tmp_path_factory.mktemp("tfds")
    GptJaxPoems(data_dir=str(folder), file_format="array_record").download_and_prepare()
    return folder


def test_tfds_without_tensorflow(poems, make_config):
    call = f"tfds(name='gpt_jax_poems', field='verse', data_dir={str(poems)!r}"
    own = open_data(make_config(source=f"{call}, valid='test')", tokenizer="bytes"))
    held = open_data(make_config(source=f"{call})", tokenizer="bytes"))
    verses = [len((f"Vers {i}: schöne Grüße " * 3).encode()) + 1 for i in range(40)]
    assert (own.train.tokens, own.valid.tokens) == (sum(verses[:30]), sum(verses[30:]))
    assert held.train.tokens + held.valid.tokens == sum(verses[:30]) and held.valid.tokens > 0
    assert own.tokenizer is not None
    begin = np.concatenate([own.valid.fixed(1, 3)[k]["tokens"][0] for k in range(3)])  # TFDS shuffles the verses
    assert own.tokenizer.decode(begin).startswith("Vers 3") and "schöne" in own.tokenizer.decode(begin)
    assert own.fingerprint != held.fingerprint
    assert "tensorflow" not in sys.modules


def test_parts_and_sums_of_tfds_splits(poems, make_config):
    call = f"tfds(name='gpt_jax_poems', field='verse', data_dir={str(poems)!r}"

    def seen(train, valid):
        data = open_data(make_config(source=f"{call}, train={train!r}, valid={valid!r})", tokenizer="bytes", context=4))
        corpora = [part.fixed(1, 0) for part in (data.train, data.valid)]
        texts = [np.concatenate([part[k]["tokens"][0] for k in range(len(part))]) for part in corpora]
        return [set(re.findall(r"Vers \d+", data.tokenizer.decode(text))) for text in texts]

    whole, test = seen("train", "test")
    first, second = seen("train[:50%]", "train[50%:]")
    assert len(first) == len(second) == 15 and first | second == whole
    assert seen("train[50%:]+test", "train[:50%]") == [second | test, first]


def test_bad_tfds(poems, make_config):
    def config(arguments):
        return make_config(source=f"tfds(data_dir={str(poems)!r}, {arguments})", tokenizer="bytes")

    assert refused(config("name='gpt_jax_poems'"), "has no field 'text'").allowed == "verse, year"
    assert (
        refused(config("name='gpt_jax_poems', field='verse', valid='dev'"), "no split 'dev'").allowed
        == "train, test, parts such as 'train[:90%]', and sums of them"
    )
    for train, valid, common in (
        ("train", "train", 30),
        ("train+test", "test[:3]", 3),
        ("train[:60%]", "train[12:]", 6),
    ):
        given = config(f"name='gpt_jax_poems', field='verse', train={train!r}, valid={valid!r}")
        refused(given, f"have {common} examples in common")
    refused(config("name='gpt_jax_poems', field='verse', train='train[:0]'"), "has no examples")
    refused(config("name='gpt_jax_poems', field='year'"), "is no text but int")
    refused(config("name='gpt_jax_prose'"), "cannot be opened")


def test_missing_tfds_is_named(make_config, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    assert "pip install" in refused(make_config(source="tfds(name='x')"), "not installed").fix


@pytest.fixture
def example():
    """The docs' example source, registered for one test."""
    page = (Path(__file__).resolve().parents[2] / "docs/data.md").read_text("utf-8")
    code = page.split("## Your own source in one file")[1].split("```python\n")[1].split("```")[0]
    exec(compile(code, "jsonl.py", "exec"), {})
    yield
    del registry._variants["data.sources", "jsonl"]


def test_the_example_of_the_docs_works(example, make_config, tmp_path):
    path = tmp_path / "posts.jsonl"
    path.write_text("\n".join(json.dumps({"text": f"post {i} is about the number {i}"}) for i in range(50)))
    data = open_data(make_config(source=f"jsonl(path={str(path)!r})", tokenizer="bpe(vocab_size=270)"))
    assert data.tokenizer is not None and data.vocab == 270
    assert "is about" in data.tokenizer.decode(data.train.batches(8, 0)[0]["tokens"].ravel())
