"""A conversation: what the next answer depends on, and the commands that change it."""

import contextlib
import json
from dataclasses import replace

import pytest
from jax import monitoring

import launch
from gpt_jax import api
from gpt_jax.errors import UserError
from gpt_jax.sample.chat.chat import Chat
from gpt_jax.sample.chat.commands import COMMANDS, run
from gpt_jax.sample.chat.fitting import writer_of
from gpt_jax.sample.decode import Decoder
from gpt_jax.sample.platform import bucket
from tests.sample.test_templated_prompts import MESSAGES

ALL = ("reset", "save", "load", "seed", "temperature", "top_p", "max_new_tokens", "system", "regenerate", "undo")


def chat_with(model, system="", exact=False, **knobs) -> Chat:
    writer = writer_of(model.config, model.tokenizer, "a test")
    sample = replace(model.config.sample, **knobs)
    return Chat(Decoder(model.config.model, model.params), writer, sample, exact, system)


def said(chat, *texts) -> list[str]:
    answers = []
    for text in texts:
        chat.say(text)
        answers.append("".join(chat.answer()))
    return answers


def test_answers_are_those_of_the_front_door(model):
    """The history is the messages so far, and nothing else counts but the knobs and the seed."""
    chat = chat_with(model, "Be kind.", seed=5)
    answers = said(chat, "hello", "and now?")
    messages = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "hello"}]
    assert model.generate(messages, seed=5).text == answers[0]
    messages += [{"role": "assistant", "content": answers[0]}, {"role": "user", "content": "and now?"}]
    assert model.generate(messages, seed=5).text == answers[1]
    assert list(chat.messages) == [*messages, {"role": "assistant", "content": answers[1]}]
    assert said(chat_with(model, "Be kind.", seed=5), "hello", "and now?") == answers
    assert said(chat_with(model, "Be kind.", seed=6), "hello", "and now?") != answers


def test_turns_that_do_not_fit_are_left_out_at_the_front(model, capsys):
    chat = chat_with(model, "S", exact=True, max_new_tokens=30)
    said(chat, "one " * 5, "two " * 5)
    assert chat.left_out == 1
    system, _, _, *last = chat.messages
    assert last[1]["content"] == model.generate([system, last[0]], max_new_tokens=30).text
    assert len(chat.messages) == 5  # what is left out of a prompt is not forgotten
    with pytest.raises(UserError, match="prompt tokens and 30 new ones do not fit into 128"):
        said(chat, "long " * 40)
    assert len(chat.messages) == 5


def test_an_answer_ends_where_its_reader_does(model):
    chat = chat_with(model, max_new_tokens=60, ignore_eos=True)
    chat.say("hello")
    answer = chat.answer()
    begun = next(piece for piece in answer if piece)
    answer.close()
    assert chat.messages[-1] == {"role": "assistant", "content": begun}


@pytest.mark.slow
def test_a_chat_compiles_only_for_new_lengths(model):
    """Knobs, seeds and another conversation of the same lengths compile nothing; a long one as much as there are buckets."""
    said(chat_with(model, ignore_eos=True), "abc", "abc")
    chat = chat_with(model, ignore_eos=True)
    with compilations() as count:
        for i in range(5):
            for line in (f"temperature 0.{i + 1}", f"top_p 0.{i + 1}", f"top_k {i}", f"seed {i}"):
                run(chat, line)
            said(chat, "xyz")
            run(chat, "regenerate")
            run(chat, "undo")
        assert not count
        said(chat_with(model, exact=True, max_new_tokens=12, ignore_eos=True), *"abcdefghij")
    sizes = {size for size in map(bucket, range(128)) if size >= 48}  # of prompts
    assert 0 < len(count) <= 2 * len(sizes)  # one that reads and one that writes


@contextlib.contextmanager
def compilations():
    """What is compiled within, a name each."""
    found, name = [], "/jax/core/compile/backend_compile_duration"

    def listen(event, seconds, **more):
        if event == name:
            found.append(more)

    monitoring.register_event_duration_secs_listener(listen)
    try:
        yield found
    finally:
        monitoring.unregister_event_duration_listener(listen)


def test_commands(model, capsys, tmp_path):
    chat = chat_with(model, "Be kind.", seed=3)
    (first,) = said(chat, "hello")
    assert run(chat, "regenerate") and chat.sample.seed == 4
    second = chat.messages[-1]["content"]
    assert second == model.generate(list(chat.messages[:-1]), seed=4).text and second != first
    assert capsys.readouterr().out == f"{second}\n"
    run(chat, "temperature 0.5")
    run(chat, "temperature")
    run(chat, "max_new_tokens 4")
    assert capsys.readouterr().out == "temperature = 0.5\n" and chat.exact
    run(chat, f"save {tmp_path / 'talk.json'}")
    run(chat, "undo")
    run(chat, "system Be brief.")
    assert list(chat.messages) == [{"role": "system", "content": "Be brief."}]
    run(chat, "system")
    assert chat.messages == ()
    run(chat, "reset")
    assert (chat.sample, chat.exact, chat.messages) == (chat.first, False, ())
    run(chat, f"load {tmp_path / 'talk.json'}")
    assert [message["content"] for message in chat.messages] == ["Be kind.", "hello", second]
    assert chat.sample == replace(chat.first, seed=4, temperature=0.5, max_new_tokens=4)
    capsys.readouterr()
    run(chat, "history")
    assert capsys.readouterr().out == f"system: Be kind.\nuser: hello\nassistant: {second}\n"
    run(chat, "reset")
    assert [message["content"] for message in chat.messages] == ["Be kind."]
    assert run(chat, "help") and not run(chat, "quit")
    shown = capsys.readouterr().out
    assert all(f"/{name} " in shown for name in ALL) and "top_k" in shown


def test_an_answer_is_kept_where_there_can_be_no_other(model):
    chat = chat_with(model)
    said(chat, "hello")
    before = chat.messages
    run(chat, "max_new_tokens 100000")
    sample = chat.sample
    with pytest.raises(UserError, match="do not fit"):
        run(chat, "regenerate")
    assert (chat.messages, chat.sample) == (before, sample)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_says_what_it_does(name):
    assert COMMANDS[name].help


@pytest.mark.parametrize(
    "line, words",
    [
        ("regenrate", "there is no command /regenrate"),
        ("undo 3", "/undo takes nothing after it"),
        ("undo", "nothing has been said yet"),
        ("regenerate", "there is no message to answer"),
        ("temperature hot", "sample.temperature = 'hot'"),
        ("top_p 0", "above 0, up to 1"),
        ("seed -1", "sample.seed = -1 is out of range"),
        ("num_return_sequences 2", "there is no command"),
        ("save", "the name of a file is missing"),
        ("save {folder}/other.txt", "holds no conversation"),
        ("save {folder}/no/where.json", "No such file"),
        ("load {folder}/other.txt", "holds no conversation"),
        ("load {folder}/nothing.json", "cannot be read"),
        ("load {folder}", "cannot be read"),
        ("load {folder}/role.json", "message 1 has the role 'tool'"),
        ("load {folder}/knob.json", "there is no knob 'tempratur'"),
        ("load {folder}/value.json", "top_p = 3"),
    ],
)
def test_what_is_wrong_changes_nothing(line, words, model, tmp_path):
    (tmp_path / "other.txt").write_text("my only copy")
    (tmp_path / "role.json").write_text(json.dumps({"messages": [{"role": "tool", "content": "x"}]}))
    (tmp_path / "knob.json").write_text(json.dumps({"messages": [], "tempratur": 1}))
    (tmp_path / "value.json").write_text(json.dumps({"messages": [], "top_p": 3}))
    chat = chat_with(model)
    before = (chat.messages, chat.sample)
    with pytest.raises(Exception, match=words):
        run(chat, line.format(folder=tmp_path))
    assert (chat.messages, chat.sample) == before
    assert (tmp_path / "other.txt").read_text() == "my only copy"


def test_a_saved_chat_is_a_prompt_and_an_example(model, workdir, tmp_path, capsys):
    chat = chat_with(model)
    said(chat, "hello", "and?")
    path = tmp_path / "talk.jsonl"
    run(chat, f"save {path}")
    run(chat, f"save {path}")  # its own file may be written anew
    assert launch.main(["sample", f"--workdir={workdir}", f"--prompts={path}", "--output=jsonl"]) == 0
    assert json.loads(capsys.readouterr().out)["prompt"].count("<|im_start|>user\n") == 2
    from gpt_jax.data.sources.jsonl import jsonl

    rows = jsonl(model.config, path=str(path), valid=str(_other(tmp_path))).train
    assert rows[0]["messages"] == list(chat.messages)


def _other(folder):
    path = folder / "other.jsonl"
    path.write_text(json.dumps({"messages": MESSAGES[:2] + [{"role": "assistant", "content": "hi"}]}) + "\n")
    return path


def test_templates_without_a_place_for_something(trained, capsys):
    alone = api.load(trained("alpaca", model__context=512))
    chat = chat_with(alone)
    said(chat, "hello", "and now?")
    assert chat.messages[-1]["content"] == alone.generate("and now?").text
    with pytest.raises(UserError, match="no system message"):
        chat_with(api.load(trained("gemma")), "Be kind.")


def test_what_is_searched_for_is_no_answer(model):
    with pytest.raises(UserError, match="not searched for"):
        chat_with(model, num_beams=3, temperature=0.0)
