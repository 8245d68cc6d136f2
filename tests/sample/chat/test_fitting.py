"""The prompt of a history holds as many whole turns as fit, the newest ones, after the system's message."""

import random

import pytest

from gpt_jax import registry
from gpt_jax.data.rendering import Writer, dialogue, with_tokens
from gpt_jax.data.tokenizers.bytes import Bytes
from gpt_jax.errors import UserError
from gpt_jax.sample.chat.fitting import fit, parts, remembers
from gpt_jax.sample.prompts import prompt_of

TEMPLATES = registry.names("data.templates")


def writer(template: str) -> Writer:
    made = registry.build("data.templates", template)
    return Writer(made, with_tokens(Bytes(), made))


def history(draw: random.Random, turns: int, system: bool) -> list[dict]:
    said = [[("word " * draw.randint(0, 9))[: draw.randint(0, 40)] for _ in range(2)] for _ in range(turns)]
    messages = [message for one in said for message in dialogue(*one)] + dialogue(said[0][0] if said else "a question")
    return [{"role": "system", "content": "Be kind."}] * system + messages


@pytest.mark.parametrize("template", ["chatml", "llama2", "llama3", "gemma", "zephyr"])
def test_it_is_what_trying_every_cut_finds(template):
    draw, write = random.Random(0), writer(template)
    seen = set()
    for _ in range(60):
        turns, system = draw.randint(0, 7), template != "gemma" and draw.random() < 0.5
        messages, most = history(draw, turns, system), draw.randint(1, 900)
        begin = messages[:system]
        cuts = [prompt_of([*begin, *messages[system + 2 * n :]], "x", write.tokenizer, write) for n in range(turns + 1)]
        right = next((n for n, prompt in enumerate(cuts) if len(prompt.ids) <= most), turns)
        found = fit(messages, write, most)
        assert (found.left_out, found.prompt.ids) == (right, cuts[right].ids)
        seen.add(right > 0)
    assert seen == {False, True}


def test_the_last_turn_and_the_system_stay_however_little_fits():
    write = writer("chatml")
    found = fit([{"role": "system", "content": "S"}, *dialogue("old", "answer"), *dialogue("new")], write, 1)
    assert found.left_out == 1 and "S<|im_end|>" in found.prompt.text and found.prompt.text.count("<|im_start|>") == 3
    assert fit(dialogue("new"), write, 1).left_out == 0


def test_turns_begin_with_the_user():
    user, assistant, system = ({"role": role, "content": "x"} for role in ("user", "assistant", "system"))
    assert parts([system, system, user, assistant, system, user]) == (
        [system, system],
        [[user, assistant, system], [user]],
    )
    assert parts([assistant, user]) == ([], [[assistant], [user]])
    assert parts([]) == ([], [])


def test_what_is_no_history_is_refused_however_long_it_is():
    long = [*dialogue("x" * 500, "y"), {"role": "tool", "content": "z"}, *dialogue("a", "b"), *dialogue("c")]
    with pytest.raises(UserError, match="message 3 has the role 'tool'"):
        fit(long, writer("chatml"), 60)
    with pytest.raises(UserError, match="no system message"):
        fit([{"role": "system", "content": "S"}, *dialogue("a")], writer("gemma"), 60)


@pytest.mark.parametrize("template", TEMPLATES)
def test_which_templates_remember(template):
    assert remembers(writer(template)) == (template != "alpaca")
    assert writer(template).template.dialogues == (template != "plain")
