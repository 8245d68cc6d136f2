"""The official client gets what it asks for, in the form that its own models describe."""

import math
from types import SimpleNamespace

import numpy as np
import openai
import pytest
from openai.types import Completion, Model
from openai.types.chat import ChatCompletion, ChatCompletionChunk

import gpt_jax
from gpt_jax.data.tokenizers.file import Subwords
from gpt_jax.sample.likelihood import Likelihood
from gpt_jax.sample.prompts import encoded
from gpt_jax.sample.rows import Sampling
from gpt_jax.serve.answers import Choice, CompletionAnswer
from gpt_jax.serve.spelling import Spelling
from gpt_jax.serve.tickets import Text
from tests import fallback

HELLO = [{"role": "user", "content": "the cat"}]


@pytest.fixture
def chat(client):
    def ask(**given):
        return client.chat.completions.create(
            **{"model": "chat", "messages": HELLO, "max_tokens": 12, "seed": 5} | given
        )

    return ask


@pytest.fixture
def complete(client):
    def ask(prompt="the cat ", **given):
        return client.completions.create(**{"model": "plain", "prompt": prompt, "seed": 5} | given)

    return ask


@pytest.fixture(scope="module")
def models(workdirs):
    return {name: gpt_jax.load(path) for name, path in workdirs.items()}


def valid(kind, response):
    return kind.model_validate(response.model_dump())


def test_the_runs_are_the_models(client):
    found = [valid(Model, model) for model in client.models.list()]
    assert [model.id for model in found] == ["chat", "plain"]
    assert client.models.retrieve("plain").owned_by == "gpt_jax"
    with pytest.raises(openai.NotFoundError, match="does not exist"):
        client.models.retrieve("other/x")


def test_a_chat_is_answered(chat, models):
    found = valid(ChatCompletion, chat())
    (choice,) = found.choices
    assert (found.object, found.model, choice.index, choice.message.role) == ("chat.completion", "chat", 0, "assistant")
    expected = models["chat"].generate(HELLO, max_new_tokens=12, seed=5, top_k=0, temperature=1.0)
    assert choice.message.content == expected.text
    assert choice.finish_reason == expected.finish_reason and choice.logprobs is None
    assert found.usage.prompt_tokens == len(expected.prompt_ids)
    assert found.usage.completion_tokens == len(expected.ids) == found.usage.total_tokens - found.usage.prompt_tokens
    assert found.system_fingerprint.startswith("fp_")


def test_knobs_are_those_of_sampling(chat, models):
    knobs = {"temperature": 0.7, "top_p": 0.8, "presence_penalty": 0.5, "frequency_penalty": -0.5}
    found = chat(**knobs, extra_body={"top_k": 9, "min_p": 0.01, "repetition_penalty": 1.2})
    rest = {"max_new_tokens": 12, "seed": 5, "top_k": 9, "min_p": 0.01, "repetition_penalty": 1.2}
    assert found.choices[0].message.content == models["chat"].generate(HELLO, **knobs, **rest).text


def test_a_content_may_come_in_parts(chat):
    parts = [{"role": "user", "content": [{"type": "text", "text": "the "}, {"type": "text", "text": "cat"}]}]
    assert chat(messages=parts).choices == chat().choices
    assert chat(messages=[{"role": "developer", "content": "x"}, *HELLO]).choices == (
        chat(messages=[{"role": "system", "content": "x"}, *HELLO]).choices
    )


def test_seeds_repeat_and_samples_differ(chat):
    several = valid(ChatCompletion, chat(n=3))
    texts = [choice.message.content for choice in several.choices]
    assert [choice.index for choice in several.choices] == [0, 1, 2] and len(set(texts)) == 3
    assert texts == [choice.message.content for choice in chat(n=3).choices]
    assert chat().choices[0].message.content == texts[0]
    assert chat(seed=-1).choices == chat(seed=-1).choices != chat(seed=None).choices
    assert several.usage.prompt_tokens == chat().usage.prompt_tokens


def test_max_completion_tokens_is_max_tokens(chat):
    assert chat(max_completion_tokens=12, max_tokens=None).choices == chat().choices
    assert chat(max_completion_tokens=3).usage.completion_tokens == 3


@pytest.mark.parametrize("usage", [True, False])
def test_a_stream_is_the_answer_in_parts(chat, usage):
    given = {"n": 2, "logprobs": True, "top_logprobs": 3}
    whole = chat(**given)
    options = {"stream_options": {"include_usage": True}} if usage else {}
    chunks = [valid(ChatCompletionChunk, chunk) for chunk in chat(stream=True, **options, **given)]
    assert len({chunk.id for chunk in chunks}) == 1 and chunks[0].choices[0].delta.role == "assistant"
    for choice in whole.choices:
        parts = [part for chunk in chunks for part in chunk.choices if part.index == choice.index]
        assert "".join(part.delta.content or "" for part in parts) == choice.message.content
        assert [part.finish_reason for part in parts] == [None] * (len(parts) - 1) + [choice.finish_reason]
        tokens = [token for part in parts if part.logprobs for token in part.logprobs.content]
        assert [t.model_dump() for t in tokens] == [t.model_dump() for t in choice.logprobs.content]
    if usage:
        assert chunks[-1].choices == [] and chunks[-1].usage == whole.usage
        assert all(chunk.usage is None for chunk in chunks[:-1])
    else:
        assert all(chunk.usage is None and chunk.choices for chunk in chunks)


def test_log_probabilities_are_the_models(chat, models):
    found = valid(ChatCompletion, chat(logprobs=True, top_logprobs=4, temperature=0.6)).choices[0]
    expected = models["chat"].generate(HELLO, max_new_tokens=12, seed=5, temperature=0.6, logprobs=4)
    tokens = found.logprobs.content
    np.testing.assert_allclose([t.logprob for t in tokens], expected.logprobs[: len(tokens)], atol=1e-4)
    assert b"".join(bytes(t.bytes) for t in tokens).decode("utf-8", "replace") == found.message.content
    for token, tops in zip(tokens, expected.top_logprobs, strict=False):
        np.testing.assert_allclose([one.logprob for one in token.top_logprobs], tops, atol=1e-4)
    assert all(not t.top_logprobs for t in chat(logprobs=True).choices[0].logprobs.content)


def test_stop_strings_end_a_text(complete):
    text = complete(max_tokens=40).choices[0].text
    for stop in (text[5:7], [text[9:11], text[5:7], "never there"]):
        (choice,) = complete(max_tokens=40, stop=stop).choices
        first = min(text.find(s) for s in ([stop] if isinstance(stop, str) else stop) if s in text)
        assert choice.text == text[:first] and choice.finish_reason == "stop"
        assert complete(max_tokens=40, stop=stop, logprobs=2).choices[0].text == choice.text
    parts = [part.choices[0].text for part in complete(max_tokens=40, stop=text[5:7], stream=True)]
    assert "".join(parts) == text[: text.find(text[5:7])]


def test_prompts_come_as_texts_and_as_ids(complete, models):
    tokenizer = models["plain"].tokenizer
    texts = ["the cat ", "dog ran "]
    ids = [tokenizer.encode(text).tolist() for text in texts]
    whole = valid(Completion, complete(texts, n=2))
    found = [choice.text for choice in whole.choices]
    assert [choice.index for choice in whole.choices] == [0, 1, 2, 3]
    assert found == [choice.text for choice in complete(ids, n=2).choices]
    assert [complete(text).choices[0].text for text in texts] == found[::2]
    assert complete(ids[1]).choices[0].text == found[2]
    expected = models["plain"].generate(texts[0], max_new_tokens=16, seed=5, temperature=1.0, templated=False)
    assert found[0] == expected.text


@pytest.mark.parametrize("new", [0, 1, 5])
def test_an_echo_has_the_log_probabilities_of_the_prompt(complete, models, new):
    model = models["plain"]
    ids = model.tokenizer.encode("the cat sat on a mat.").tolist()
    (choice,) = complete(ids, echo=True, logprobs=1, max_tokens=new, temperature=0).choices
    written = model.generate(ids, max_new_tokens=new, temperature=0).ids if new else []
    found = choice.logprobs
    assert choice.text == model.tokenizer.decode([*ids, *written])
    assert found.token_logprobs[0] is None and found.top_logprobs[0] is None
    expected = -np.asarray(model.loss([*ids, *written]))
    np.testing.assert_allclose(found.token_logprobs[1:], expected, atol=1e-4)
    likeliest = np.asarray(model.logits([*ids, *written]))[:-1].argmax(-1)
    greedy = [
        max(tops, key=tops.get) == token for token, tops in zip(found.tokens[1:], found.top_logprobs[1:], strict=True)
    ]
    assert greedy == (likeliest == [*ids, *written][1:]).tolist()
    assert [choice.text[at:].startswith(t) for at, t in zip(found.text_offset, found.tokens, strict=True)].count(
        False
    ) <= sum(t.startswith("bytes:") for t in found.tokens)


@pytest.mark.parametrize("prepend, expected", [(False, [0, 0, 1, 2, 3, 4, 5]), (True, [0, 0, 0, 1, 2, 3, 4, 5])])
def test_the_offsets_of_an_echo_leave_out_what_opens_a_text(prepend, expected):
    made = Subwords(fallback.tokenizer(prepend, "<s>").to_str(), "</s>", "made", opens=True)
    prompt = encoded("hi you", "here", made)
    run = SimpleNamespace(name="made", fingerprint="", tokenizer=made, spelling=Spelling(made))
    text = Text(prompt.ids, prompt.text, True, 0, Sampling(), 0, top=0, reads=True)
    predicted = len(prompt.ids) - 1
    read = Likelihood([-1.0] * predicted, [True] * predicted, [[]] * predicted, [[]] * predicted)
    found = CompletionAnswer(run, [text], 1, [prompt]).choice(0, Choice(prompt=read))
    assert found["text"] == "hi you" and found["logprobs"]["text_offset"] == expected


def test_no_more_than_the_context_is_written(chat, complete, client):
    found = chat(max_tokens=None)
    assert found.usage.total_tokens <= 128
    with pytest.raises(openai.BadRequestError) as error:
        chat(max_tokens=128)
    assert error.value.code == "context_length_exceeded"
    assert complete([1] * 127, max_tokens=1).usage.total_tokens == 128


def test_a_run_without_a_template_has_no_chat(client):
    with pytest.raises(openai.BadRequestError) as error:
        client.chat.completions.create(model="plain", messages=HELLO)
    assert error.value.code == "no_chat_template" and "/v1/completions" in error.value.message


BAD = [
    ({"top_n": 3}, "top_n", "unknown_parameter"),
    ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools", "unsupported_parameter"),
    ({"chat_template": "{{ x }}"}, "chat_template", "unsupported_parameter"),
    ({"logit_bias": {"5": 1}}, "logit_bias", "unsupported_parameter"),
    ({"response_format": {"type": "json_object"}}, "response_format", "unsupported_parameter"),
    ({"temperature": 3}, "temperature", "invalid_value"),
    ({"temperature": True}, "temperature", "invalid_value"),
    ({"top_p": "1"}, "top_p", "invalid_value"),
    ({"n": 0}, "n", "invalid_value"),
    ({"n": 1000}, "n", "invalid_value"),
    ({"max_tokens": 0}, "max_tokens", "invalid_value"),
    ({"stop": ["a"] * 5}, "stop", "invalid_value"),
    ({"stop": [""]}, "stop", "invalid_value"),
    ({"top_logprobs": 3}, "top_logprobs", "invalid_value"),
    ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", "invalid_value"),
    ({"stream_options": {"include_usage": True}}, "stream_options", "invalid_value"),
    ({"messages": []}, "messages", "invalid_value"),
    ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role", "unsupported_parameter"),
    (
        {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
        "messages[0].content",
        "unsupported_parameter",
    ),
    ({"messages": [{"role": "user"}]}, "messages[0].content", "invalid_value"),
    ({"messages": HELLO * 300}, "messages", "invalid_value"),
]


@pytest.mark.parametrize("given, param, code", BAD, ids=[f"{param}-{code}" for _, param, code in BAD])
def test_what_is_wrong_is_named(client, given, param, code):
    with pytest.raises(openai.BadRequestError) as error:
        client.chat.completions.create(model="chat", **{"messages": HELLO}, extra_body=given)
    assert (error.value.param, error.value.code, error.value.type) == (param, code, "invalid_request_error")


def test_what_concerns_openai_alone_is_passed_over(chat):
    found = chat(user="me", metadata={"a": "b"}, store=False, extra_body={"tools": None, "logit_bias": {}})
    assert found.choices == chat().choices


def test_a_model_that_is_not_there(client):
    with pytest.raises(openai.NotFoundError) as error:
        client.completions.create(model="gpt-4", prompt="x")
    assert error.value.code == "model_not_found"


def test_the_least_temperatures_are_fine(chat):
    greedy = chat(temperature=0)
    assert chat(temperature=0, seed=9).choices == greedy.choices == chat(top_p=0, seed=7).choices
    assert all(math.isfinite(t.logprob) for t in chat(temperature=1e-6, logprobs=True).choices[0].logprobs.content)
