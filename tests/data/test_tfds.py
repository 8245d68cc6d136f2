"""Data sets of TFDS: their splits, parts and sums of them, without TensorFlow."""

import re
import sys

import numpy as np
import pytest

from gpt_jax import registry
from gpt_jax.data.open import open_data
from gpt_jax.errors import UserError
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


@pytest.fixture(scope="module")
def questions(tmp_path_factory):
    """Rows with fields of several types."""
    tfds = pytest.importorskip("tensorflow_datasets")
    pytest.importorskip("array_record")
    pytest.importorskip("importlib_resources")
    text = tfds.features.Text()

    class GptJaxQuestions(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = {
                "question": text,
                "answers": {"text": text, "start": np.int64},
                "good": np.bool_,
                "names": tfds.features.Sequence(text),
                "kind": tfds.features.ClassLabel(num_classes=3),
                "turns": tfds.features.Sequence({"role": text, "content": text}),
            }
            return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples(0, 30), "test": self._generate_examples(30, 40)}

        def _generate_examples(self, low, high):
            for i in range(low, high):
                turns = [{"role": "user", "content": f"wo {i}"}, {"role": "assistant", "content": "hier"}]
                answers = {"text": f"da {i}", "start": i}
                yield (
                    i,
                    {"question": f"Größe {i}", "answers": answers, "good": i % 2 == 0, "kind": i % 3, "turns": turns}
                    | {"names": [f"first {i}", "second"]},
                )

    folder = tmp_path_factory.mktemp("tfds_rows")
    GptJaxQuestions(data_dir=str(folder), file_format="array_record").download_and_prepare()
    return folder


def rows_of(questions, make_config, fields, **more):
    config = make_config(tokenizer="bytes")
    arguments = {"name": "gpt_jax_questions", "data_dir": str(questions), "fields": fields, **more}
    call = f"tfds({', '.join(f'{key}={value!r}' for key, value in arguments.items())})"
    return registry.build("data.sources", call, config), call


def test_rows_of_examples_from_tfds(questions, make_config):
    fields = {"prompt": "question", "completion": "answers/text", "label": "good"}
    made, call = rows_of(questions, make_config, fields, valid="test")
    wanted = [{"prompt": f"Größe {i}", "completion": f"da {i}", "label": i % 2 == 0} for i in range(40)]
    assert sorted(made.train, key=str) == sorted(wanted[:30], key=str)
    assert sorted(made.valid, key=str) == sorted(wanted[30:], key=str)
    assert re.fullmatch(r"gpt_jax_questions/1.0.0/train/\d+", made.places[0][0])
    assert open_data(make_config(source=call, tokenizer="bytes", context=32)).train.tokens > 200
    held, _ = rows_of(questions, make_config, {"messages": "turns"})
    assert len(held.train) + len(held.valid) == 30 and len(held.valid) > 0
    assert held.train[0]["messages"][1] == {"role": "assistant", "content": "hier"}
    classed, _ = rows_of(questions, make_config, {"text": "question", "class": "kind"})
    assert all(row["class"] == int(row["text"].split()[1]) % 3 for row in classed.train)
    listed, _ = rows_of(questions, make_config, {"prompt": "question", "completion": "names/0"})
    assert all(row["completion"].split() == ["first", row["prompt"].split()[1]] for row in listed.train)
    texts, _ = rows_of(questions, make_config, {"text": "question"}, valid="test")
    assert set(texts.texts()) == {f"Größe {i}" for i in range(30)}


def test_bad_rows_of_tfds(questions, make_config):
    for fields, message in (
        ({"answer": "question"}, r"train/0: no example has the fields answer alone"),
        ({"prompt": "question", "completion": "good"}, "completion is bool"),
        ({"prompt": "query", "completion": "good"}, "has no field 'query'"),
        ({"prompt": "question", "completion": "answers/texts"}, "has no field 'answers/texts'"),
        ({"prompt": "question", "completion": "names/2"}, "has no field 'names/2'"),
        ({"prompt": "question", "completion": "names/first"}, "has no field 'names/first'"),
    ):
        with pytest.raises(UserError, match=message):
            rows_of(questions, make_config, fields)
    with pytest.raises(UserError, match="both field= and fields="):
        rows_of(questions, make_config, {"prompt": "question"}, field="question")


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
