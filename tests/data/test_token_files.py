"""Files of token ids: what they say of themselves holds, and what they do not say is asked for."""

import numpy as np
import pytest

from gpt_jax.data.open import open_data
from tests import fallback
from tests.data.refusals import refused


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


def test_ids_have_the_tokenizer_that_has_as_many(make_config, tmp_path):
    """Then prompts are texts, and bits per byte are counted; else a line says why not, and the ids are read as they are."""
    ids, path = np.frombuffer(b"some text. " * 100, np.uint8), tmp_path / "ids.bin"
    ids.astype(np.uint16).tofile(path)

    def opened(tokenizer, vocab):
        return open_data(make_config(source=f"tokens(path={str(path)!r}, vocab={vocab})", tokenizer=tokenizer))

    found, others = opened("bytes", 257), [opened("bytes", 256), opened("bpe(vocab_size=300)", 257)]
    others.append(opened("file(path='none/tokenizer.json')", 257))
    assert found.tokenizer.decode(found.valid.fixed(1, 1)[0]["tokens"][0]) in "some text. " * 2 and not found.notes
    assert np.array_equal(found.byte_lengths[ids], np.ones(len(ids)))
    for other, reason in zip(others, ("bytes has 257 of them", "made from texts", "cannot be read"), strict=True):
        assert other.tokenizer is None and other.byte_lengths is None
        assert len(other.notes) == 1 and reason in other.notes[0]
    assert len({data.fingerprint for data in (found, *others[1:])}) == 1


def test_ids_of_a_tokenizer_that_changes_bytes_have_no_bits_per_byte(make_config, tmp_path):
    made = fallback.tokenizer(prepend=True)
    made.save(str(tmp_path / "tokenizer.json"))
    np.save(tmp_path / "ids.npy", np.zeros(1000, np.uint16))
    source = f"tokens(path={str(tmp_path / 'ids.npy')!r}, vocab={made.get_vocab_size()})"
    data = open_data(make_config(source=source, tokenizer=f"file(path={str(tmp_path / 'tokenizer.json')!r})"))
    assert data.tokenizer is not None and data.byte_lengths is None


@pytest.mark.parametrize("kind", ["bin", "npy"])
def test_sharded_token_files_mix_with_others(make_config, tmp_path, kind):
    """A batch of a mixture, or the rows of a process, may hold none of a source."""
    folders = []
    for source in range(2):
        folders.append(tmp_path / str(source))
        folders[-1].mkdir()
        for name in ("train_0", "train_1", "val_0"):
            ids = np.full(60, source, np.uint16)
            ids.tofile(folders[-1] / f"{name}.bin") if kind == "bin" else np.save(folders[-1] / f"{name}.npy", ids)
    calls = [f"tokens(path={str(folder)!r}, vocab=2)" for folder in folders]
    batches = open_data(make_config(source=[(0.9, calls[0]), (0.1, calls[1])])).train.batches(4, 0)
    sources = np.concatenate([batches[k]["tokens"][:, 0] for k in range(20)])
    assert sources.tolist() == [batches.rows(k, b, b + 1)["tokens"][0, 0] for k in range(20) for b in range(4)]
    assert 4 <= sources.sum() <= 12


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
    refused(config(at=tmp_path / "empty"), r"has no file \*train\*.bin or \*train\*.npy")
    for name in ("pretrain_train_0", "pretrain_val_0"):
        llmc(tmp_path / "empty" / f"{name}.bin", np.arange(50))
    refused(config(at=tmp_path / "empty"), "the name pretrain_val_0.bin says both train and val")
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
