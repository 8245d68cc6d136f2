"""Tokenizers: exact round trips, exact byte lengths, stored and cached forms that are the same tokenizer."""

import json

import numpy as np
import pytest

from gpt_jax import registry
from gpt_jax.data import tokenizers
from gpt_jax.data.documents import from_files
from gpt_jax.data.tokenizers import Texts
from gpt_jax.errors import UserError

HARD = "naïve 中文 🙂🙂\n\n\tif x == 1:\r\n        return  'it''s'\n \n\nΑβγ ١٢٣ <|endoftext|> end\u00a0 \u2028x\n"


@pytest.fixture
def texts(tmp_path) -> Texts:
    folder = tmp_path / "docs"
    folder.mkdir()
    for i in range(6):
        (folder / f"{i}.txt").write_text(
            HARD * 20 + f"document {i} says hello to the other documents\n\n\n" * 30, "utf-8"
        )
    paths = sorted(folder.iterdir())
    return Texts((from_files(paths, [p.name for p in paths]),), 0.3, tmp_path / "cache")


def build(call: str, texts: Texts):
    return registry.build("data.tokenizers", call, texts, where="config.data.tokenizer")


@pytest.fixture(params=["bytes", "chars", "bpe(vocab_size=300)", "file", "gpt2"])
def tokenizer(request, texts, tmp_path):
    if request.param == "gpt2":
        return build(f"gpt2(path={str(request.getfixturevalue('gpt2_folder'))!r})", texts)
    if request.param == "file":
        spec = json.loads(build("bpe(vocab_size=290)", texts).to_json())["spec"]
        (tmp_path / "tokenizer.json").write_text(spec)
        return build(f"file(path={str(tmp_path / 'tokenizer.json')!r})", texts)
    return build(request.param, texts)


def test_round_trip_and_byte_lengths(tokenizer):
    ids = tokenizer.encode(HARD)
    assert ids.dtype == np.int32 and ids.ndim == 1 and ids.max() < tokenizer.vocab
    assert tokenizer.decode(ids) == HARD
    assert tokenizer.byte_lengths.shape == (tokenizer.vocab,)
    assert tokenizer.byte_lengths[ids].sum() == len(HARD.encode())
    assert tokenizer.separator is not None and tokenizer.separator not in ids
    assert tokenizer.byte_lengths[tokenizer.separator] == 0


def test_byte_lengths_of_single_ids(tokenizer):
    for i in range(tokenizer.vocab if tokenizer.vocab < 1000 else 1000):
        text = tokenizer.decode([i])
        if "\ufffd" not in text and i != tokenizer.separator:
            assert tokenizer.byte_lengths[i] == len(text.encode()), i


@pytest.mark.parametrize("size", [1, 40])
def test_pieces_join_to_the_whole(tokenizer, size, monkeypatch):
    monkeypatch.setattr(f"{type(tokenizer).__module__}.PIECE", size)
    text = (HARD + "hello\n\n\ndocuments\n  \n\n\nsay\nhello\n") * 10
    pieces = tokenizer.pieces(text)
    assert "".join(pieces) == text and len(pieces) >= 10
    assert np.array_equal(np.concatenate(tokenizer.encode_many(pieces)), tokenizer.encode(text))
    assert tokenizer.pieces("") == []


def test_stored_form_is_the_same_tokenizer(tokenizer):
    other = tokenizers.from_json(tokenizer.to_json())
    assert other.fingerprint == tokenizer.fingerprint and other.vocab == tokenizer.vocab
    assert np.array_equal(other.encode(HARD), tokenizer.encode(HARD)) and other.separator == tokenizer.separator


def test_ids_beyond_the_vocabulary_decode_to_nothing(tokenizer):
    assert tokenizer.decode([*tokenizer.encode("hello"), tokenizer.vocab, 10**6]) == "hello"


def test_fingerprints_differ(texts):
    calls = ["bytes", "chars", "bpe(vocab_size=300)", "bpe(vocab_size=301)"]
    assert len({build(call, texts).fingerprint for call in calls}) == 4


def test_bpe_is_trained_once_and_the_same_again(texts, tmp_path, monkeypatch):
    first = build("bpe(vocab_size=300)", texts)
    again = build("bpe(vocab_size=300)", Texts(texts.sources, texts.valid_fraction, tmp_path / "another cache"))
    assert again.to_json() == first.to_json()
    monkeypatch.setattr("gpt_jax.data.tokenizers.bpe._train", lambda *_: pytest.fail("trained again"))
    assert build("bpe(vocab_size=300)", texts).fingerprint == first.fingerprint


def test_bpe_sees_training_documents_only(texts):
    train, valid = texts.sources[0].split(texts.valid_fraction)
    seen = "".join(texts.training_sample(10**9))
    for i in range(6):
        assert (f"document {i} says" in seen) == (f"{i}.txt" in train.names) == (f"{i}.txt" not in valid.names)


def test_gpt2_counts_of_tinyshakespeare(texts, gpt2_folder, shakespeare):
    tokenizer = build(f"gpt2(path={str(gpt2_folder)!r})", texts)
    text = shakespeare.read_text("utf-8")
    cut = int(len(text) * 0.9)
    assert tokenizer.vocab == 50257 and tokenizer.separator == 50256
    for part, tokens in ((text[:cut], 301_966), (text[cut:], 36_059)):
        ids = np.concatenate(tokenizer.encode_many(tokenizer.pieces(part)))
        assert len(ids) == tokens
        assert tokenizer.byte_lengths[ids].sum() == len(part.encode())
    assert tokenizer.encode("Hello world").tolist() == [15496, 995]


def test_byte_fallback_counts_bytes(texts, tmp_path):
    from tokenizers import Tokenizer, decoders, models, normalizers

    vocab = {f"<0x{b:02X}>": b for b in range(256)} | {"▁": 256, "h": 257, "i": 258, "</s>": 259}
    library = Tokenizer(models.BPE(vocab, [], byte_fallback=True))
    library.normalizer = normalizers.Replace(" ", "▁")
    library.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    library.add_special_tokens(["</s>"])
    library.save(str(tmp_path / "t.json"))
    tokenizer = build(f"file(path={str(tmp_path / 't.json')!r}, separator='</s>')", texts)
    text = "hi 中 hi"
    assert tokenizer.decode(tokenizer.encode(text)) == text and tokenizer.separator == 259
    assert tokenizer.byte_lengths[tokenizer.encode(text)].sum() == len(text.encode())


def test_chars_are_nanogpts(texts):
    chars = build("chars", texts)
    alphabet = sorted(set("".join(texts.everything())))
    assert chars.encode("".join(alphabet)).tolist() == list(range(len(alphabet))) and chars.vocab == len(alphabet) + 1


@pytest.mark.parametrize(
    "call, message",
    [
        ("byte", "did you mean 'bytes'"),
        ("bpe(vocab_size=100)", "257"),
        ("bpe(vocab_size=60000)", "merges for"),
        ("bpe(vocab=300)", "vocab_size"),
        ("gpt2(path='/nowhere')", "encoder.json"),
        ("file(path='/nowhere.json')", "/nowhere.json cannot be read"),
    ],
)
def test_bad_calls(texts, call, message):
    with pytest.raises(UserError, match=message):
        build(call, texts)


def test_bad_files(texts, tmp_path):
    (tmp_path / "t.json").write_text("{}")
    with pytest.raises(UserError, match="is not a tokenizer.json"):
        build(f"file(path={str(tmp_path / 't.json')!r})", texts)
    (tmp_path / "encoder.json").write_text('{"a": 0}')
    (tmp_path / "vocab.bpe").write_text("#version\nx y\n")
    with pytest.raises(UserError, match="does not hold GPT-2's tokenizer"):
        build(f"gpt2(path={str(tmp_path)!r})", texts)
    from tokenizers import Tokenizer, decoders, models

    words = Tokenizer(models.WordPiece({"[UNK]": 0, "a": 1}))
    words.decoder = decoders.WordPiece()
    words.save(str(tmp_path / "words.json"))
    with pytest.raises(UserError, match="definite number of bytes"):
        build(f"file(path={str(tmp_path / 'words.json')!r})", texts)


def test_an_unseen_character_is_named(texts):
    with pytest.raises(UserError, match=r"character 'Ж' \(number 2 of the text\) does not occur in the training text"):
        build("chars", texts).encode("heЖ")
    with pytest.raises(UserError, match="does not occur"):
        build("chars", texts).encode("\U0010ffff")
