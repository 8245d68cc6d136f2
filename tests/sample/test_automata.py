"""Texts that match patterns, are valid for schemas, or that an automaton of the user's accepts."""

import functools
import json
import re
import sys

import numpy as np
import pytest

from gpt_jax.data.tokenizers.bytes import Bytes
from gpt_jax.data.tokenizers.chars import Chars
from gpt_jax.data.tokenizers.file import Subwords
from gpt_jax.errors import UserError
from gpt_jax.sample.constraints import automata
from gpt_jax.sample.decode import Decoder
from gpt_jax.sample.knobs import sampling
from gpt_jax.sample.platform import CPU
from gpt_jax.sample.processors import Vocabulary
from tests import fallback
from tests.model.variants import config, parameters
from tests.sample.test_platform import FOUR, lowered, waits
from tests.trained import subwords

pytest.importorskip("outlines_core")
jsonschema = pytest.importorskip("jsonschema")

TEXT = 'The cat sat on the mat: {"name": "Ada", "age": 36, "tags": ["a", "b"]}, 2024-05-17 or 12é. ' * 3
SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 6},
        "age": {"type": "integer"},
        "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 2},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}
DATE = r"\d{4}-(0[1-9]|1[0-2])-[0-3]\d"
NEW = 40
VOCAB = 340
TOKENIZERS = ("bytes", "chars", "separated", "bpe", "file")


@functools.cache
def vocabulary(name):
    """Of one model for all: it has more rows than the tokenizers have tokens."""
    alphabet = "".join(sorted(set(TEXT)))
    tokenizer = {
        "bytes": Bytes,
        "chars": lambda: Chars(alphabet, False),
        "separated": lambda: Chars(alphabet, True),
        "bpe": lambda: subwords(TEXT, 290),
        "file": lambda: Subwords(fallback.tokenizer().to_str(), "</s>", "a test"),
        "few": lambda: Chars("abcde", False),
        "brackets": lambda: Chars("()abc", False),
    }[name]()
    return Vocabulary(VOCAB, tokenizer, tokenizer.stop_ids)


@functools.cache
def decoder(platform):
    c = config(vocab=VOCAB, context=64)
    return Decoder(c, parameters(c), platform)


def written(rows, names, platform=CPU, new=NEW):
    """(ids, text) of rows with the tokenizers of these names, after a prompt of one token; texts without what ended them."""
    asked = dict(max_new_tokens=new, sampling=rows, seeds=range(len(rows)))
    found = decoder(platform).generate([[1]] * len(rows), **asked).tokens
    given = [vocabulary(name) for name in names]
    kept = [[i for i in row if i not in own.stop_ids] for row, own in zip(found, given, strict=True)]
    return [(ids, own.tokenizer.decode(row)) for ids, row, own in zip(found, kept, given, strict=True)]


def accepts(automaton, ids):
    state = 0
    for i in ids:
        state = automaton.next_QC[state, automaton.class_V[i]]
        if state < 0:
            return False
    return automaton.left_Q[state] == 0


@pytest.mark.parametrize(
    "pattern", [r".{0,3}", r"[0-9]{1,3}(é|ü)?", r"(a|0)*a00", r"[^a]+", r"a(0é)?", r"(a0)?", r"a|0{2}"]
)
def test_a_pattern_accepts_what_it_matches(pattern):
    random = np.random.default_rng(0)
    given = vocabulary("bytes")
    automaton = automata.of_regex(given, pattern, "here")
    texts = ["".join(random.choice(list("a0éü€😀\n"), size=random.integers(6))) for _ in range(400)]
    got = [accepts(automaton, given.tokenizer.encode(text)) for text in texts]
    assert got == [bool(re.fullmatch(pattern, text)) for text in texts]


@pytest.mark.parametrize("name", TOKENIZERS)
def test_token_bytes_are_the_text(name):
    tokenizer = vocabulary(name).tokenizer
    tokens = tokenizer.token_bytes()
    assert len(tokens) == tokenizer.vocab and [len(token) for token in tokens] == tokenizer.byte_lengths.tolist()
    for text in ("the mat: 12", "cat é 2024"):
        if name != "file":  # whose decoder drops the space that it starts with
            assert b"".join(tokens[i] for i in tokenizer.encode(text)) == text.encode()


@pytest.mark.parametrize("platform", [CPU, FOUR], ids=["cpu", "accelerator"])
def test_rows_match_their_patterns_and_schemas(platform):
    """50 seeds in one batch: every tokenizer with every form, beside rows without one."""
    patterns = [r"[0-9]{2,5}(é|a)?", DATE, r"(the|a) (cat|mat)( sat)*", r".*"]
    calls = [*(f"regex(pattern={pattern!r})" for pattern in patterns), f"json_schema(schema={SCHEMA!r})", ""]
    cases = [(name, call) for _ in range(2) for name in TOKENIZERS for call in calls][:50]
    rows = [sampling(vocabulary(name), processors=(call,) if call else ()) for name, call in cases]
    for (name, call), (ids, text) in zip(cases, written(rows, [name for name, _ in cases], platform), strict=True):
        if call.startswith("json"):
            jsonschema.validate(json.loads(text), SCHEMA)
        elif call:
            pattern = patterns[calls.index(call)]
            assert re.fullmatch(pattern, text), (name, pattern, text)
        stops = vocabulary(name).stop_ids
        assert not call or not stops or len(ids) == NEW or ids[-1] in stops


def test_a_text_is_complete_within_its_room():
    """In rooms of 2 to 6 tokens, where no token ends a row; and rows that end since nothing may follow, or go on without."""
    given = vocabulary("few")
    rooms = [2, 3, 4, 5, 6]
    calls = [*["regex(pattern='(ab)+c?')"] * 5, *["regex(pattern='ab|cde')"] * 6, "regex(pattern='ab')"]
    rows = [*(sampling(given, processors=(call,)) for call in calls), sampling(given)]
    texts = [text for _, text in written(rows, ["few"] * 13, new=[*rooms, *[9] * 8])]
    assert all(re.fullmatch("(ab)+c?", text) and len(text) <= room for text, room in zip(texts, rooms, strict=False))
    assert (
        set(texts[5:11]) == {"ab", "cde"} and texts[11] == "ab" and len(written(rows[-1:], ["few"], new=9)[0][0]) == 9
    )


def test_a_text_without_room_is_refused():
    rows = [sampling(vocabulary("bytes")), sampling(vocabulary("bytes"), processors=(f"regex(pattern={DATE!r})",))]
    with pytest.raises(UserError, match="prompt 2 of 2 after 0 new ones: regex removed all"):
        written(rows, ["bytes"] * 2, new=9)


def test_greedy_and_streamed():
    asked = sampling(vocabulary("bytes"), processors=(f"regex(pattern={DATE!r})",), temperature=0)
    parts = decoder(CPU).stream([[1]], max_new_tokens=16, sampling=asked, seeds=[0], every=3)
    ids = sum((part.tokens[0] for part in parts), [])
    assert re.fullmatch(DATE, bytes(ids[:-1]).decode()) and ids[-1] == 256


BRACKETS = """
start = 0

def step(depth, text):
    for letter in text:
        depth += {"(": 1, ")": -1}.get(letter, 9)
        if not 0 <= depth <= 3:
            return None
    return depth

def accepts(depth):
    return depth == 0
"""
IDS = """
start = -1

def step(last, token):
    return token if last < token < 37 else None

def accepts(last):
    return last > 20
"""
BYTES = """
start = ""

def step(so_far, byte):
    text = so_far + chr(byte)
    return text if "\\xc3\\xa9!".startswith(text) else None

def accepts(so_far):
    return len(so_far) == 3
"""


@pytest.fixture
def file(tmp_path):
    def write(text):
        path = tmp_path / "mine.py"
        path.write_text(text)
        return str(path)

    return write


def test_an_automaton_of_the_users(file):
    """By texts, by ids without a tokenizer, and by bytes."""
    brackets = sampling(vocabulary("brackets"), processors=(f"automaton(path={file(BRACKETS)!r})",))
    ids = sampling(Vocabulary(VOCAB), processors=(f"automaton(path={file(IDS)!r}, reads='ids')",))
    spelt = sampling(vocabulary("bytes"), processors=(f"automaton(path={file(BYTES)!r}, reads='bytes')",))
    found = written([brackets] * 4 + [ids] * 4 + [spelt], ["brackets"] * 4 + ["bytes"] * 5, new=12)
    for _, text in found[:4]:
        assert len(text) == 12 and max(depth := np.cumsum([1 if c == "(" else -1 for c in text])) <= 3
        assert min(depth) >= 0 and depth[-1] == 0
    assert all(row == sorted(set(row)) and 20 < row[-1] < 37 for row, _ in found[4:8])
    assert found[8][1] == "é!"


REFUSED = {
    "no pattern": ("regex(pattern='(')", "'(' is no pattern"),
    "no pattern by itself": ("regex(pattern='a)(b')", "is no pattern"),
    "look-ahead": ("regex(pattern='(?=a)b')", "is no pattern"),
    "not of these tokens": ("regex(pattern='x{3}')", "no text of this tokenizer's tokens"),
    "too large": ("regex(pattern='a{0,300}')", "too large"),
    "no schema": ("json_schema()", "a schema is needed"),
    "no such schema": ("json_schema(path='nowhere.json')", "nowhere.json cannot be read"),
    "no file": ("automaton(path='nowhere.py')", "there is no file nowhere.py"),
    "what it reads": ("automaton(path='nowhere.py', reads='words')", "'words' cannot be read"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_used_is_refused(name, monkeypatch):
    call, said = REFUSED[name]
    monkeypatch.setattr(automata, "LARGEST", 2**9)
    with pytest.raises(UserError, match=re.escape(said)):
        sampling(vocabulary("few"), processors=(call,))


@pytest.mark.parametrize(
    "text, said",
    [
        ("start = 0\ndef step(s, t): return s + 1\ndef accepts(s): return True", "or more states"),
        ("start = 0\ndef step(s, t): return t.nothing\ndef accepts(s): return True", "raised AttributeError"),
        ("start = 0\ndef step(s, t): return None\ndef accepts(s): return False", "no text"),
        ("start = 0", "lacks step, accepts"),
    ],
)
def test_automata_that_are_none(text, said, file, monkeypatch):
    monkeypatch.setattr("gpt_jax.sample.processors.automaton.MOST_CALLS", 500)
    with pytest.raises(UserError, match=said):
        sampling(vocabulary("few"), processors=(f"automaton(path={file(text)!r})",))


def test_texts_need_a_tokenizer():
    with pytest.raises(UserError, match="there is no tokenizer"):
        sampling(Vocabulary(5), processors=("regex(pattern='a')",))


def test_without_the_library_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "outlines_core", None)
    with pytest.raises(UserError, match="pip install outlines-core"):
        sampling(vocabulary("bytes"), processors=("regex(pattern='a')",))


def test_nothing_waits_for_the_host():
    given = Vocabulary(37, Chars("".join(map(chr, range(97, 133))), True), (36,))
    assert not waits(lowered(FOUR, sampling(given, processors=("regex(pattern='a+b')",))))
