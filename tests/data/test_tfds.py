"""Data sets of TFDS: their splits, parts and sums of them, without TensorFlow."""

import re
import sys

import numpy as np
import pytest

from gpt_jax.data.open import open_data
from tests.data.refusals import refused


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
