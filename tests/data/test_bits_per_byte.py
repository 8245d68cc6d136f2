"""Bytes of tokens: over a whole text they add up to the text's, or no bits per byte are reported."""

import json

import numpy as np
import pytest
from tokenizers import Tokenizer, normalizers, pre_tokenizers

from gpt_jax import registry
from gpt_jax.data.corpus import open_corpus
from gpt_jax.data.open import open_data
from gpt_jax.data.tokenizers.bytes import Bytes
from tests import fallback
from tests.data.test_data_tokenizers import HARD

PLAIN = "hello there 😀 naïve\n"


def metaspace(scheme: str):
    made = fallback.tokenizer(prepend=False)
    made.normalizer = None
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    return made


def composed():
    made = fallback.tokenizer(prepend=False)
    made.normalizer = normalizers.Sequence([normalizers.NFC(), made.normalizer])
    return made


def counted(make_config, tmp_path, call: str, texts: list[str]) -> bool:
    """Whether bytes are counted; if so, they must be those of the texts."""
    folder = tmp_path / "docs"
    folder.mkdir()
    for i, text in enumerate(texts):
        (folder / f"{i}.txt").write_text(text, "utf-8")
    config = make_config(source=f"text(path={str(folder)!r})", tokenizer=call)
    data = open_data(config)
    if data.byte_lengths is None:
        return False
    source = registry.build("data.sources", config.data.source, config)
    corpus = open_corpus(source, data.tokenizer, config.data.valid_fraction, tmp_path / "cache")
    ids = np.concatenate([corpus.train.ids, corpus.valid.ids])
    assert data.byte_lengths[ids].sum() == sum(len(text.encode()) for text in texts)
    return True


@pytest.mark.parametrize("name", sorted(set(registry.names("data.tokenizers")) - {"none"}))
def test_registered_tokenizers_count_every_byte(name, make_config, tmp_path, request):
    if name == "gpt2":
        call = f"gpt2(path={str(request.getfixturevalue('gpt2_folder'))!r})"
    elif name == "file":
        fallback.tokenizer(prepend=False).save(str(tmp_path / "t.json"))
        call = f"file(path={str(tmp_path / 't.json')!r}, separator='</s>')"
    elif name == "run":
        (tmp_path / "tokenizer.json").write_text(Bytes().to_json())
        call = f"run(path={str(tmp_path)!r})"
    else:
        call = {"bpe": "bpe(vocab_size=280)"}.get(name, name)
    assert counted(make_config, tmp_path, call, [HARD + PLAIN * (i + 3) for i in range(4)])


def without_a_space():
    """Every space is the three bytes of "▁", as a sentencepiece model without that token writes it."""
    spec = json.loads(fallback.tokenizer(prepend=False).to_str())
    spec["model"]["vocab"] = {("?" if token == "▁" else token): i for token, i in spec["model"]["vocab"].items()}
    return Tokenizer.from_str(json.dumps(spec))


TOKENIZERS = {
    "plain": (fallback.tokenizer(prepend=False), True),
    "a space before a text": (fallback.tokenizer(), False),
    "metaspace": (metaspace("never"), True),
    "metaspace with a space before a text": (metaspace("first"), False),
    "no bytes for unknown characters": (fallback.tokenizer(prepend=False, byte_fallback=False), False),
    "no token for the space": (without_a_space(), False),
    "normalised, text as it normalises": (composed(), True),
}


@pytest.mark.parametrize("case", TOKENIZERS)
def test_what_changes_the_bytes_is_not_counted(case, make_config, tmp_path):
    made, exact = TOKENIZERS[case]
    made.save(str(tmp_path / "t.json"))
    call = f"file(path={str(tmp_path / 't.json')!r}, separator='</s>')"
    assert counted(make_config, tmp_path, call, [PLAIN * (i + 2) for i in range(4)]) == exact


def test_one_text_that_is_changed_is_enough(make_config, tmp_path):
    composed().save(str(tmp_path / "t.json"))
    call = f"file(path={str(tmp_path / 't.json')!r}, separator='</s>')"
    assert not counted(make_config, tmp_path, call, [PLAIN * 3, PLAIN * 3, "e\u0301" + PLAIN * 3])
