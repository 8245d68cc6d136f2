"""From dialogues to ids: bad messages, tokens that a tokenizer lacks, and a run's data with a template."""

import json

import numpy as np
import pytest

from gpt_jax import registry
from gpt_jax.data import tokenizers
from gpt_jax.data.examples import Examples
from gpt_jax.data.forms import Side
from gpt_jax.data.open import open_data
from gpt_jax.data.rendering import Writer, dialogue, with_tokens
from gpt_jax.data.templates.chatml import END, START, chatml
from gpt_jax.data.templates.llama3 import BEGIN
from gpt_jax.data.templates.plain import plain
from gpt_jax.data.templates.zephyr import zephyr
from gpt_jax.data.tokenizers.bytes import Bytes
from gpt_jax.data.tokenizers.chars import Chars
from gpt_jax.data.tokenizers.extended import Extended, extended
from gpt_jax.data.tokenizers.file import Subwords
from gpt_jax.errors import UserError
from gpt_jax.registry import register
from tests.data import dialogues
from tests.data.refusals import refused

ROWS = [
    {"prompt": "hello", "completion": "hi"},
    {
        "messages": dialogue(
            "a b",
            "c",
        ),
        "k": 1,
    },
]
GIVEN: dict = {}


@register("data.sources", "given_rows")
def given_rows(config) -> Examples:
    rows = GIVEN.get("rows", ROWS)
    return Examples(
        rows, ROWS, json.dumps(rows, default=str), ([f"rows.jsonl, line {i + 1}" for i in range(len(rows))], ())
    )


@pytest.fixture
def config(make_config):
    def make(rows=ROWS, **data):
        GIVEN["rows"] = rows
        return make_config(data.pop("context", 64), source="given_rows()", **{"tokenizer": "bytes", **data})

    return make


@pytest.mark.parametrize(
    "messages, said",
    [
        ([], "there are no messages"),
        ("hello", "'hello' is no list of messages"),
        ({"role": "user", "content": "x"}, "is no list of messages"),
        (["hello"], "message 1 is 'hello'"),
        ([{"content": "x"}], "message 1 has no role"),
        ([{"role": "user"}], "message 1 has no content"),
        ([{"role": "user", "content": "x"}, {"role": "tool", "content": "x"}], "message 2 has the role 'tool'"),
        ([{"role": ["user"], "content": "x"}], "message 1 has the role"),
        ([{"role": "user", "content": None}], "the content of message 1 is no text: None"),
        ([{"role": "user", "content": [{"type": "text"}]}], "the content of message 1 is no text"),
    ],
)
def test_bad_messages_are_named_with_their_place(messages, said, config):
    error = refused(config([ROWS[0], {"messages": messages}]), said)
    assert error.where == "rows.jsonl, line 2" and error.exit_code == 2


@pytest.mark.parametrize("prompt", [5, {"role": "user"}, [5]])
def test_a_prompt_that_is_none(prompt, config):
    assert refused(config([{"prompt": prompt, "completion": "x"}]), "message 1").where == "rows.jsonl, line 1"


def test_a_dialogue_without_an_answer(config):
    refused(config([{"messages": dialogue("x")}], template="chatml"), "line 1 has no answer of the assistant to learn")


def test_a_template_that_there_is_not(config):
    error = refused(config(template="chatlm"), "chatlm")
    assert error.where == "config.data.template" and "chatml" in str(error)


@pytest.mark.parametrize("template", ["plain", "zephyr", "alpaca", "llama2"])
def test_a_tokenizer_without_an_end(template, config, tmp_path):
    (tmp_path / "tokenizer.json").write_text(dialogues.tokenizer_json("gpt2", ("<unused>",)))
    path = str(tmp_path / "tokenizer.json")
    refused(config(template=template, tokenizer=f"file(path={path!r})"), "no token that ends an answer")
    assert open_data(config(template="chatml", tokenizer=f"file(path={path!r})")).tokenizer.stop_ids


def test_a_run_has_its_templates_tokens(config):
    data = open_data(config(template="chatml"))
    assert data.vocab == data.tokenizer.vocab == 259
    assert data.tokenizer.stop_ids == (256, 258)
    batch = data.train.windows[0].gather(np.array([0]), np.array([0]))
    assert data.tokenizer.decode(batch["tokens"][0][:12]) == f"{START}user\nhello{END}"
    assert open_data(config()).fingerprint != data.fingerprint
    assert open_data(config()).vocab == 257 and type(open_data(config()).tokenizer) is Bytes


def test_a_text_that_is_learned_whole(config):
    """It begins as dialogues do, and ends as documents do."""
    for template, before in {"plain": "", "chatml": "", "llama3": BEGIN}.items():
        data = open_data(config([{"text": "hello\ud800"}], template=template))
        (encoded,) = data.train.windows[0]._encoded
        assert data.tokenizer.decode(encoded.ids) == f"{before}hello\N{REPLACEMENT CHARACTER}<|endoftext|>"
        assert encoded.trained.tolist() == [*[False] * bool(before), *[True] * (len(encoded.ids) - bool(before))]
    assert refused(config([{"text": 5}]), "the text is 5").where == "rows.jsonl, line 1"


def test_documents_are_read_with_them_too(make_config, tmp_path):
    """So that a model learns its language from texts, and has rows for the tokens of dialogues."""
    (tmp_path / "t.txt").write_text("hello " * 100)
    data = open_data(
        make_config(source=f"text(path={str(tmp_path / 't.txt')!r})", tokenizer="bytes", template="chatml")
    )
    assert data.vocab == 259


@pytest.mark.parametrize("template", registry.names("data.templates"))
def test_the_characters_of_a_template_are_in_the_alphabet(template, config):
    rows = [{"prompt": "xyz", "completion": "x"}]
    data = open_data(config(rows * 2, template=template, tokenizer="chars", context=256))
    assert set("xyz") <= set(data.tokenizer.decode(range(data.vocab)))
    found = open_data(config(rows, template="plain", tokenizer="chars")).tokenizer
    assert found.vocab == len(set("xyz" + "hello hi a b c" + "\n")) + 1


def texts(*contents: str) -> list[dict]:
    return [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(contents)]


def test_texts_are_read_as_one_where_that_changes_no_prompt():
    """A tokenizer that puts a space before a text puts none into the middle of one."""
    tokenizer = dialogues.subwords("llama2")
    (found,) = Writer(plain(), tokenizer).write([texts("the fox", " jumps")])
    assert found.ids[:-1].tolist() == tokenizer.encode("the fox jumps").tolist()
    (found,) = Writer(zephyr(), tokenizer).write([texts("the", "fox")])
    parts = [[*tokenizer.encode(text), tokenizer.separator] for text in ("<|user|>\nthe", "\n<|assistant|>\nfox")]
    assert found.ids.tolist() == [*parts[0], *parts[1], *tokenizer.encode("\n")]
    merged = dialogues.subwords("gpt2")
    (found,) = Writer(plain(), merged).write([texts("the qu", "ick fox")])
    apart = [*merged.encode("the qu"), *merged.encode("ick fox"), merged.separator]
    assert found.ids.tolist() == apart != [*merged.encode("the quick fox"), merged.separator]
    assert found.trained.tolist() == [i >= len(merged.encode("the qu")) for i in range(len(apart))]


def test_lone_surrogates_are_written_as_others_are():
    for tokenizer in (Bytes(), dialogues.subwords("gpt2")):
        (found,) = Writer(plain(), tokenizer).write([texts("a\ud800", "b")])
        assert "a\N{REPLACEMENT CHARACTER}b" in tokenizer.decode(found.ids)


@pytest.mark.parametrize(
    "inner", [Bytes(), Chars("\n aehlo", True), dialogues.subwords("gpt2"), dialogues.subwords("llama2")]
)
def test_added_tokens(inner):
    made = with_tokens(inner, chatml())
    assert isinstance(made, Extended) and made.vocab == inner.vocab + 2
    ids = (made.special(START), made.special(END))
    assert ids == (inner.vocab, inner.vocab + 1)
    assert made.stop_ids == (*inner.stop_ids, ids[1])
    assert made.byte_lengths.tolist() == [*inner.byte_lengths, 0, 0]
    assert len(made.token_bytes()) == made.vocab and made.token_bytes()[-2:] == [b"", b""]
    assert made.fingerprint != inner.fingerprint and made.separator == inner.separator
    assert made.encode("hello").tolist() == inner.encode("hello").tolist()
    assert (
        made.decode([ids[0], *inner.encode("hello"), ids[1], made.vocab])
        == f"{START}{inner.decode(inner.encode('hello'))}{END}"
    )
    again = tokenizers.from_json(made.to_json())
    assert (again.fingerprint, again.stop_ids, again.vocab) == (made.fingerprint, made.stop_ids, made.vocab)
    assert again.decode(ids) == START + END and again.special("</s>") == inner.special("</s>")


def test_a_tokenizer_that_has_them_stays_what_it_is():
    assert with_tokens(tokenizer := Bytes(), plain()) is tokenizer
    own = dialogues.subwords("gpt2", (START, END))
    made = with_tokens(own, chatml())  # it has them, and one more id ends a text
    assert made.vocab == own.vocab and made.stop_ids == (own.separator, own.special(END))
    assert with_tokens(made, chatml()) is made
    ending = dialogues.subwords("gpt2", (START, END), ends=(own.special(END),))
    assert with_tokens(ending, chatml()) is ending


def test_tokens_are_added_once_more_for_another_template():
    first = with_tokens(Bytes(), chatml())
    both = extended(first, ("<a>", START), "<a>")
    assert type(both.inner) is Bytes and both.tokens == (START, END, "<a>")
    assert both.stop_ids == (256, 258, 259) and both.special(END) == first.special(END)


def test_tokens_that_a_file_does_not_list_as_special():
    """Such as a text may make; they are the template's, and no text makes them any more."""
    spec = json.loads(dialogues.tokenizer_json("gpt2", ("</s>", START, END)))
    for token in spec["added_tokens"]:
        token["special"] = False
    own = Subwords(json.dumps(spec), "</s>", "a test")
    assert own.special(START) in own.encode(START)
    made = with_tokens(own, chatml())
    assert made.vocab == own.vocab and made.special(START) == own.special(START)
    text = f"the {START}fox{END * 3} jumps"
    for ids in (made.encode(text), *made.encode_many([text, text])):
        assert not np.isin(ids, [own.special(START), own.special(END)]).any()
        assert made.decode(ids) == text
    assert with_tokens(made, chatml()) is made


def test_a_special_token_that_a_tokenizer_lacks():
    with pytest.raises(UserError, match=r"no token <\|im_start\|>"):
        Writer(chatml(), Bytes()).write([dialogue("x", "y")])


@pytest.mark.parametrize("form", ["text", "pairs", "labelled"])
def test_answers_within_a_prompt_are_not_learned(form):
    prompt = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]
    row = {"prompt": prompt, "completion": "de", "label": True, "chosen": "de", "rejected": "fg"}
    row = {
        name: row[name] for name in ("prompt", *{"pairs": ("chosen", "rejected")}.get(form, ("completion", "label")))
    }
    writer = Writer(plain(), Bytes())
    made = registry.build("data.forms", form)(Side([row, {**row, "prompt": "f"}], [], writer, 16, "padded"))
    batch = made.windows.gather(np.array([0]), np.array([0]))
    first = {name: batch[name].reshape(-1, 16)[0] for name in ("targets", "weights")}
    assert first["targets"][first["weights"] > 0].tolist() == [*b"de", 256]


def labelled(*prompts: str):
    """The windows of rows with these prompts, whose completions are A, B, …"""
    rows = [{"prompt": prompt, "completion": chr(65 + i), "label": i % 2 == 0} for i, prompt in enumerate(prompts)]
    return registry.build("data.forms", "labelled")(Side(rows, [], Writer(plain(), Bytes()), 16, "padded")).windows


@pytest.mark.parametrize("prompts, others", [("xxyyx", "CCEEC"), ("xyz", "BCA"), ("xxxy", "DDDA"), ("yxx", "BAA")])
def test_the_other_completion_of_a_labelled_row_is_of_another_prompt(prompts, others):
    batch = labelled(*prompts).gather(np.arange(len(prompts)), np.zeros(len(prompts), int))
    first = (batch["weights"] > 0).argmax(-1)[..., None]
    targets = np.take_along_axis(batch["targets"], first, -1)[..., 0]
    assert [bytes(column.tolist()).decode() for column in targets.T] == ["ABCDE"[: len(prompts)], others]


def test_labelled_rows_of_one_prompt_are_refused():
    with pytest.raises(UserError, match="all 2 rows of a side have the same prompt"):
        labelled("x", "x")
