"""What every template promises, and whether it writes what was published under its name."""

import random

import numpy as np
import pytest

from gpt_jax import registry
from gpt_jax.data.rendering import Writer, with_tokens
from gpt_jax.data.templates import ASSISTANT, SYSTEM, USER, Template
from gpt_jax.data.tokenizers.bytes import Bytes
from gpt_jax.errors import UserError
from tests.data import dialogues

NAMES = registry.names("data.templates")
ALTERNATING = ("llama2", "gemma", "alpaca")
KINDS = ("bytes", "gpt2", "llama2")


def template(name: str) -> Template:
    return registry.build("data.templates", name)


def writer(name: str, tokenizer=None) -> Writer:
    return Writer(template(name), with_tokens(tokenizer or Bytes(), template(name)))


def drawn(name: str, count: int, bare: bool = False, seed: int = 0) -> list[list[dict]]:
    """Dialogues that a template has a place for, each with an answer."""
    draw = random.Random(seed)
    most = 2 if name == "alpaca" else 6
    systems = [False] if name == "gemma" else [False, True]
    return [dialogues.dialogue(draw, draw.choice(systems), draw.randint(2, most), bare) for _ in range(count)]


def begins(first: np.ndarray, second: np.ndarray) -> bool:
    return np.array_equal(first, second[: len(first)])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NAMES)
def test_a_prompt_has_the_ids_that_it_has_in_training(name, kind):
    made = writer(name, dialogues.subwords(kind))
    for messages in drawn(name, 12):
        (whole,) = made.write([messages])
        for k in range(1, len(messages) + 1):
            (part,) = made.write([messages[:k]])
            assert begins(part.ids, whole.ids) and begins(part.trained, whole.trained)
            if k < len(messages) and messages[k]["role"] == ASSISTANT:
                (prompt,) = made.write([messages[:k]], answer=True)
                assert begins(prompt.ids, whole.ids)
                assert not prompt.trained[len(part.ids) :].any()
                following = whole.trained[len(prompt.ids) :]
                assert following[0]  # the first token that is to be written


@pytest.mark.parametrize("name", NAMES)
def test_answers_and_their_ends_are_trained_and_nothing_else(name):
    made, stripped = writer(name), name in ("llama2", "llama3", "gemma")
    for messages in drawn(name, 12):
        (found,) = made.write([messages])
        end = made.tokenizer.special(made.template.end) if made.template.end else made.tokenizer.separator
        assert end in made.tokenizer.stop_ids
        learned = found.ids[found.trained]
        parts = np.split(learned, np.flatnonzero(learned == end) + 1)
        assert len(parts.pop()) == 0
        said = [made.tokenizer.decode(part[:-1]) for part in parts]
        answers = [message["content"] for message in messages if message["role"] == ASSISTANT]
        if stripped:
            said, answers = [one.strip() for one in said], [one.strip() for one in answers]
        assert said == answers


@pytest.mark.parametrize("opens", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_a_dialogue_begins_once(name, opens):
    begin = template(name).begin or "<s>"
    tokenizer = dialogues.subwords("gpt2", (begin,))
    first = tokenizer.special(begin)
    if opens:
        tokenizer.opening = (first,)
    made = writer(name, tokenizer)
    for messages in drawn(name, 8):
        users = sum(message["role"] == USER for message in messages)
        (found,) = made.write([messages])
        expected = users if name == "llama2" else int(opens or bool(template(name).begin))
        assert found.ids.tolist().count(first) == expected
        assert not expected or found.ids[0] == first


@pytest.mark.parametrize("name", NAMES)
def test_no_text_makes_a_special_token(name):
    """Those of the template, and the separator; also where the tokenizer's file does not list them as special."""
    names = (*template(name).specials, "</s>")
    spelt = f"a{''.join(names)}b"
    for tokenizer in (Bytes(), dialogues.subwords("gpt2", template(name).specials), dialogues.subwords("gemma")):
        made = writer(name, tokenizer)
        own = [made.tokenizer.special(one) for one in names]

        def count(content, made=made, own=own):
            messages = [{"role": USER, "content": content}, {"role": ASSISTANT, "content": content}]
            (found,) = made.write([messages])
            return np.isin(found.ids, [i for i in own if i is not None]).sum(), made.tokenizer.decode(found.ids)

        assert count(spelt)[0] == count("a")[0]
        assert count(spelt)[1].count(spelt) == 2


@pytest.mark.parametrize("name", NAMES)
def test_a_dialogue_does_not_depend_on_others(name):
    made = writer(name, dialogues.subwords("llama2"))
    rows = drawn(name, 6)
    for i, found in enumerate(made.write(rows)):
        (alone,) = made.write([rows[i]])
        assert np.array_equal(found.ids, alone.ids) and np.array_equal(found.trained, alone.trained)


# Template -> the kind of tokenizer that models with it have, its separator and the name of its first token.
PUBLISHED = {
    "chatml": ("gpt2", "<|endoftext|>", "<|endoftext|>"),
    "llama2": ("llama2", "</s>", "<s>"),
    "llama3": ("llama3", "<|end_of_text|>", "<|begin_of_text|>"),
    "zephyr": ("llama2", "</s>", "<s>"),
    "gemma": ("gemma", "<eos>", "<bos>"),
}


@pytest.mark.parametrize("kind", ["bytes", "own"])
@pytest.mark.parametrize("name", PUBLISHED)
def test_ids_are_those_of_the_published_template(name, kind):
    """As transformers makes them from its text in Jinja. A published text is encoded as a whole, so that a token may stand
    across the border of an answer that begins with a space; with bytes there is none."""
    transformers = pytest.importorskip("transformers")
    own, separator, begin = PUBLISHED[name]
    specials = tuple(dict.fromkeys((begin, *template(name).specials)))
    tokenizer = dialogues.subwords(own if kind == "own" else "bytes", specials, separator)
    theirs = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer._tokenizer.from_str(tokenizer._tokenizer.to_str()),
        bos_token=begin,
        eos_token=separator,
        chat_template=template(name).jinja,
    )
    made = writer(name, tokenizer)
    assert made.tokenizer.vocab == tokenizer.vocab  # nothing is added to what it has
    for messages in drawn(name, 60, bare=kind == "own", seed=1):
        answer = messages[-1]["role"] == USER
        (found,) = made.write([messages], answer=answer)
        given = {"add_generation_prompt": answer, "tokenize": True, "return_dict": False}
        assert found.ids.tolist() == theirs.apply_chat_template(messages, **given), messages


@pytest.mark.parametrize("name", ["chatml", "llama3", "zephyr"])
def test_messages_in_any_order_where_the_published_template_takes_them(name):
    transformers = pytest.importorskip("transformers")
    _, separator, begin = PUBLISHED[name]
    specials = tuple(dict.fromkeys((begin, *template(name).specials)))
    tokenizer = dialogues.subwords("bytes", specials, separator)
    theirs = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer._tokenizer, bos_token=begin, eos_token=separator, chat_template=template(name).jinja
    )
    draw = random.Random(2)
    for _ in range(20):
        messages = [
            {"role": draw.choice([SYSTEM, USER, ASSISTANT]), "content": dialogues.text(draw)}
            for _ in range(draw.randint(1, 6))
        ]
        (found,) = writer(name, tokenizer).write([messages])
        assert found.ids.tolist() == theirs.apply_chat_template(messages, tokenize=True, return_dict=False)


def test_alpaca_is_what_it_was_trained_with():
    """PROMPT_DICT of stanford_alpaca's train.py."""
    sentence = "Below is an instruction that describes a task"
    ending = "Write a response that appropriately completes the request.\n\n### Instruction:\n"
    made = writer("alpaca")
    said = made.spelt([{"role": USER, "content": "Add {x}."}, {"role": ASSISTANT, "content": "3"}], False, "")
    assert said == f"{sentence}. {ending}Add {{x}}.\n\n### Response:3<|endoftext|>"
    said = made.spelt([{"role": SYSTEM, "content": "Add."}, {"role": USER, "content": "{system}"}], True, "")
    middle = ", paired with an input that provides further context. "
    assert said == f"{sentence}{middle}{ending}Add.\n\n### Input:\n{{system}}\n\n### Response:"


U, A, S = ({"role": role, "content": "x"} for role in (USER, ASSISTANT, SYSTEM))


@pytest.mark.parametrize(
    "name, messages, said",
    [
        *((name, [A, U], "the assistant speaks where the user's turn is") for name in ALTERNATING),
        *((name, [U, U], "the user speaks where the assistant's turn is") for name in ALTERNATING),
        ("llama2", [U, S], "the system speaks where the assistant's turn is"),
        ("gemma", [S, U], "Gemma's template has no system message"),
        ("alpaca", [U, A, U], "one instruction and one answer"),
    ],
)
def test_what_a_template_has_no_place_for(name, messages, said):
    with pytest.raises(UserError, match=said) as error:
        writer(name).write([messages], place="pairs.jsonl, line {}".format)
    assert error.value.where == "pairs.jsonl, line 0" and error.value.exit_code == 2


@pytest.mark.parametrize("name", ALTERNATING)
def test_an_answer_follows_a_message_of_the_user(name):
    with pytest.raises(UserError, match="no message of the user to answer"):
        writer(name).write([[U, A]], answer=True)
