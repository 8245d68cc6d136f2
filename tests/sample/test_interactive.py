"""The loop at the terminal, driven by a pipe and by a terminal of its own."""

import io
import sys
from dataclasses import replace

import pytest

from gpt_jax.errors import UserError
from gpt_jax.sample.engine import turns
from gpt_jax.sample.outputs.interactive import Session
from gpt_jax.sample.platform import CPU
from tests.sample.terminal import CTRL_C, CTRL_D, terminal
from tests.sample.test_outputs import SAMPLE, Letters, decoder, run

CHILD = """
from dataclasses import replace
from gpt_jax.sample.outputs.interactive import Session
from tests.sample.test_outputs import SAMPLE, Decoder, Letters, config, parameters

long = config(vocab=257, context=2**14, layers=1, position="none")
Session(Decoder(long, parameters(long)), Letters(None), replace(SAMPLE, max_new_tokens=16000), False).run()
print("ended")
"""


@pytest.fixture
def typed(monkeypatch, capsys):
    """What a session prints for some lines: standard output and error."""

    def drive(*lines, sample=SAMPLE, exact=False):
        monkeypatch.setattr(sys, "stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
        Session(decoder(), Letters(), sample, exact).run()
        return capsys.readouterr()

    return drive


def test_lines_are_continued_with_the_knobs_that_were_turned(typed):
    shown = typed("ab", ":temperature 0.3", "ab", ":seed=9", "", "ab", ":reset", "ab", ":n", ":quit", "ab")
    cool = replace(SAMPLE, temperature=0.3)
    texts = [run("ab", sample=s)[0].text for s in (SAMPLE, cool, replace(cool, seed=9), SAMPLE)]
    assert shown.out.splitlines() == [f"ab{text}" for text in texts]
    assert shown.err.startswith("error: there is no knob 'n'")


def test_stop_strings_and_several_samples(typed):
    stop = run("ab")[0].text[4:6]
    shown = typed(f":stop_strings {stop}", ":num_return_sequences 2", "ab", f':stop_strings ["{stop}"]', "ab").out
    rows = run("ab", sample=replace(SAMPLE, stop_strings=stop, num_return_sequences=2))
    once = "".join(f"--- sample {i}\nab{row.text}\n" for i, row in enumerate(rows, start=1))
    assert shown == once * 2 and rows[0].finish_reason == "stop_string"


def test_a_value_may_hold_what_stands_before_one(typed):
    shown = typed(":stop_strings a=b", ":processors = mirostat(tau=3.0)", ":top_k=5", ":show").out
    for line in ("* stop_strings = ('a=b',)", "* processors = ('mirostat(tau=3.0)',)", "* top_k = 5"):
        assert f"{line}\n" in shown


def test_texts_are_searched_for_as_the_command_does(typed):
    sample = replace(SAMPLE, best_of=3, num_return_sequences=2)
    rows = run("ab", sample=sample)
    assert typed("ab", sample=sample).out == "".join(f"--- sample {i}\nab{row.text}\n" for i, row in enumerate(rows, 1))


def test_turning_knobs_compiles_nothing(typed):
    programs = turns.compiled(CPU, False)
    typed("ab")
    before = [program._cache_size() for program in programs]
    turned = (":temperature 0.5", ":top_p 0.9", ":top_k 7", ":temperature 0", ":seed 5", ":max_new_tokens 20")
    assert len(typed(*(line for knob in turned for line in (knob, "ab"))).out.splitlines()) == len(turned)
    assert [program._cache_size() for program in programs] == before


def test_what_is_shown(typed):
    shown = typed(":top_k 5", ":show", ":help").out
    assert "* top_k = 5\n" in shown and "  top_p = 1.0\n" in shown and ":quit" in shown


@pytest.mark.parametrize(
    "line, words",
    [
        (":tempratur 1", ("there is no knob 'tempratur'", "did you mean 'temperature'?")),
        (":temperature -1", ("sample.temperature = -1", "above 0")),
        (":temperature hot", ("sample.temperature = 'hot'", "a float")),
        (":top_p 0", ("sample.top_p = 0", "above 0, up to 1")),
        (":stop_token_ids 300", ("300", "0 to 256")),
        (":processors ('nothing',)", ("nothing",)),
        (":max_new_tokens 64", ()),
        (":prompts a", ("there is no knob 'prompts'",)),
    ],
)
def test_what_is_wrong_is_said_and_the_loop_goes_on(typed, line, words):
    shown = typed(line, "ab")
    assert all(word in shown.err for word in words), shown.err
    if words:
        assert shown.out == f"ab{run('ab')[0].text}\n"
    else:  # a length that was asked for has to fit
        assert "2 prompt tokens and 64 new ones do not fit into 64" in shown.err and not shown.out


def test_it_needs_a_tokenizer():
    with pytest.raises(UserError, match="no tokenizer"):
        Session(decoder(), None, SAMPLE, False)


def test_at_a_terminal():
    """Ctrl-C ends a text and not the loop, and Ctrl-D ends the loop. The text is longer than what a terminal buffers, so
    that it cannot end before it is interrupted."""
    with terminal(CHILD) as shown:
        shown.asked()
        shown.type("ab\n")
        shown.until(lambda text: len(text) > 50)
        shown.type(CTRL_C)
        assert "(stopped)" in shown.asked()
        shown.type(":max_new_tokens 3\n")
        shown.asked()
        shown.type("fed\n")
        assert "\nfed" in shown.asked()
        shown.type(CTRL_D)
        shown.until(lambda text: "ended" in text)
        assert shown.child.wait(60) == 0
