"""Why texts end, how many there are of a prompt, what is reported of them, and files of them that are continued."""

import functools
import itertools
from dataclasses import replace

import jax
import numpy as np
import pytest

from gpt_jax import configs
from gpt_jax.config import SampleConfig
from gpt_jax.data.tokenizers.bytes import Bytes as FileOfBytes
from gpt_jax.data.tokenizers.file import Subwords
from gpt_jax.errors import UserError
from gpt_jax.sample.calls import Calls
from gpt_jax.sample.decode import Decoder, Sampling
from gpt_jax.sample.likelihood import likelihoods
from gpt_jax.sample.outputs.requests import APART, requests
from gpt_jax.sample.outputs.stream import StopStrings, TextStream
from gpt_jax.sample.outputs.writing import pieces, written
from gpt_jax.sample.prompts import Prompt, read_prompts
from tests import fallback
from tests.model.variants import config, logits, parameters
from tests.sample.test_text import Bytes

MODEL = config(vocab=257, context=64, layers=1)
SAMPLE = SampleConfig(**{**configs.load("base").sample, "max_new_tokens": 24, "temperature": 0.9, "seed": 3, "rows": 2})
LETTERS = "abcdefgh"
FALLBACK = Subwords(fallback.tokenizer().to_str(), "</s>", "made")


class Letters(Bytes):
    """Every id is a letter, so that short strings are found in what a random model writes."""

    def decode(self, ids):
        return "".join(LETTERS[i % len(LETTERS)] for i in ids if i != self.separator)


@functools.cache
def decoder():
    return Decoder(MODEL, parameters(MODEL))


def run(*prompts, sample=SAMPLE, tokenizer=None, exact=True):
    """The continuations of prompts, each a text or (a text, knobs of its own)."""
    pairs = [prompt if isinstance(prompt, tuple) else (prompt, {}) for prompt in prompts]
    made = [Prompt(list(text.encode()), text, f"prompt {i}", own) for i, (text, own) in enumerate(pairs, start=1)]
    tokenizer = tokenizer or Letters()
    return [text for _, text in written(decoder(), requests(made, MODEL, sample, exact, tokenizer), tokenizer)]


def first_stop(text, stops):
    """(end, begin) of the stop string that is complete first; slow and plain."""
    for end in range(1, len(text) + 1):
        found = [end - len(stop) for stop in stops if text[:end].endswith(stop)]
        if found:
            return end, min(found)
    return None


def some_stops(random, text):
    """Stop strings of which some occur in a text, some begin in it, and some contain others."""
    cuts = [sorted(random.integers(len(text) + 1, size=2)) for _ in range(2)]
    found = [text[a : min(b, a + 4)] for a, b in cuts] + ["".join(random.choice([*LETTERS], size=2))]
    return tuple(stop for stop in found if stop)


def test_streams_end_at_the_first_stop_string_however_they_are_cut():
    """Nothing is shown that is taken back, or part of a stop string; the ids are the fewest that hold it."""
    random = np.random.default_rng(0)
    ended = 0
    for case in range(300):
        made = FALLBACK if case % 3 == 0 else Letters()
        ids = (FALLBACK.encode("hi 😀 naïve\n中 you").tolist() if case % 3 == 0 else []) or random.integers(8, size=14)
        ids = list(random.permutation(ids)) if case % 6 == 0 else list(ids)
        stops = some_stops(random, made.decode(ids).replace("\N{REPLACEMENT CHARACTER}", "")) or ("ab",)
        fewest = next((n for n in range(len(ids) + 1) if first_stop(_whole(made, ids[:n]), stops)), None)
        for size, kept in itertools.product((1, 3, len(ids)), (False, True)):
            stream = TextStream(made, stops=StopStrings(stops, kept))
            parts = [stream.write(ids[i : i + size]) for i in range(0, len(ids), size)]
            parts.append(stream.close())
            if fewest is None:
                assert not stream.stopped and "".join(parts) == made.decode(ids)
                continue
            text = _whole(made, ids[:fewest])
            end, begin = first_stop(text, stops)
            assert stream.stopped and len(stream.ids) == fewest, (ids, stops, size)
            assert "".join(parts) == text[: end if kept else begin], (ids, stops, size)
            ended += 1
    assert ended > 600


def _whole(made, ids):
    return made.decode(ids).rstrip("\N{REPLACEMENT CHARACTER}")


def test_a_stop_string_does_not_begin_in_the_prompt():
    stream = TextStream(Letters(), [0], stops=StopStrings(("ab",)))
    assert stream.write([1, 0]) + stream.write([1, 2]) == "b" and stream.stopped


def test_rows_end_at_stop_strings_and_make_room_for_others():
    """The texts are those without stop strings, cut, however many are written side by side."""
    prompts = ["ab", "c", "hello", "q", "zz", "y"]
    plain = run(*prompts)
    assert [row.finish_reason for row in plain] == ["length"] * 6
    stops = (plain[0].text[5:7], plain[2].text[10:13], plain[4].text[2:3])
    for rows, kept in ((2, True), (1, False)):
        sample = replace(SAMPLE, stop_strings=stops, rows=rows, include_stop_str_in_output=kept)
        ended = run(*prompts, sample=sample)
        for before, row in zip(plain, ended, strict=True):
            found = first_stop(before.text, stops)
            cut = before.text if found is None else before.text[: found[0] if kept else found[1]]
            assert row.text == cut
            assert row.finish_reason == ("length" if found is None else "stop_string")
            assert row.ids == before.ids[: len(before.ids) if found is None else found[0]]
            assert len(row.logprobs) == len(row.ids)
    assert sum(row.finish_reason == "stop_string" for row in ended) >= 3


def test_a_closed_row_makes_room_at_once():
    """The host ends row 0 after its first look; the next prompt is written in its place while the other row goes on."""
    looks = []

    def ended(number, tokens):
        looks.append((number, len(tokens)))
        return number == 0

    new = 24
    rows = decoder().each(
        [[1], [2], [3]],
        max_new_tokens=new,
        sampling=Sampling(greedy=True),
        seeds=range(3),
        rows=2,
        ended=ended,
    )
    found = {}
    order = []
    for number, row in rows:
        order.append(number)
        found[number] = row.tokens
    whole = (
        decoder().generate([[1], [2], [3]], max_new_tokens=new, sampling=Sampling(greedy=True), seeds=range(3)).tokens
    )
    assert order == [0, 1, 2] and found[1] == whole[1] and found[2] == whole[2]
    assert 0 < len(found[0]) < 24 and found[0] == whole[0][: len(found[0])]
    assert (1, new) not in looks and {number for number, _ in looks} == {0, 1, 2}


def test_a_closed_row_writes_no_more():
    asked = decoder().asked([[1], [2]], 24, Sampling(greedy=True), [0, 1])
    calls = Calls(decoder(), asked, (), 0, 2)
    looked = calls.close(calls.until(0, 4), [0])
    after = calls.until(0)
    assert not looked["open_B"][0] and looked["open_B"][1]
    assert after["count_B"][0] == looked["count_B"][0] < after["count_B"][1] == 24


def test_what_is_streamed_is_what_is_returned():
    plain = run("ab")[0]
    for stops, kept in (((plain.text[5:8],), False), ((plain.text[5:8], plain.text[6]), True), (("zzz",), False)):
        sample = replace(SAMPLE, stop_strings=stops, include_stop_str_in_output=kept)
        (request,) = requests([Prompt([97, 98], "ab", "p")], MODEL, sample, True, Letters())
        parts = list(pieces(decoder(), request, Letters()))
        assert "".join(piece for piece, _ in parts) == run("ab", sample=sample)[0].text


def test_ids_that_end_a_text():
    plain = run("ab", tokenizer=Letters(None))[0]
    stop = plain.ids[6]
    count = plain.ids.index(stop) + 1
    own = Letters(stop)
    by_tokenizer = run("ab", tokenizer=own)[0]
    by_knob = run("ab", sample=replace(SAMPLE, stop_token_ids=(stop,)), tokenizer=Letters(None))[0]
    for row in (by_tokenizer, by_knob):
        assert row.ids == plain.ids[:count] and row.finish_reason == "stop"
        assert row.text == Letters().decode(plain.ids[: count - 1])
    ignored = run("ab", sample=replace(SAMPLE, ignore_eos=True), tokenizer=own)[0]
    assert ignored.ids == plain.ids and ignored.finish_reason == "length"
    other = plain.ids[2]
    both = run("ab", sample=replace(SAMPLE, ignore_eos=True, stop_token_ids=(other,)), tokenizer=own)[0]
    assert both.ids == plain.ids[: plain.ids.index(other) + 1] and both.finish_reason == "stop"


def test_a_constraint_that_is_complete_ends_a_text():
    sample = replace(SAMPLE, processors=("regex(pattern='abc')",), ignore_eos=True)
    (row,) = run("x", sample=sample, tokenizer=FileOfBytes())
    assert (row.text, row.finish_reason) == ("abc", "stop")


def test_samples_of_a_prompt():
    """The first is the one sample of before; none depends on how many there are, or on the other prompts."""
    single = run("ab", "c")
    three = run("ab", "c", sample=replace(SAMPLE, num_return_sequences=3))
    assert [row.ids for row in three[::3]] == [row.ids for row in single]
    assert len({tuple(row.ids) for row in three[:3]}) == 3
    assert [row.ids for row in run("ab", sample=replace(SAMPLE, num_return_sequences=2))] == [r.ids for r in three[:2]]
    own = run("x", ("ab", {"seed": 3, "n": 2}))
    assert [row.ids for row in own[1:]] == [row.ids for row in three[:2]]


def test_no_two_seeds_are_equal():
    """Those of two samples would be where j * APART is as near to a multiple of 2^32 as their prompts are to each other."""
    j = np.arange(1, 2**16, dtype=np.uint64)
    distance = j * np.uint64(APART) % np.uint64(2**32)
    nearest = np.minimum(distance, np.uint64(2**32) - distance)
    assert (nearest * j).min() > 2**30
    asked = requests([Prompt([1], None, "p")] * 50, MODEL, replace(SAMPLE, num_return_sequences=40), True, None)
    assert len({request.seed for request in asked}) == 2000


def test_lines_have_knobs_of_their_own(tmp_path):
    path = tmp_path / "p.jsonl"
    path.write_text('{"prompt": "ab"}\n{"prompt": "ab", "temperature": 0, "max_new_tokens": 5, "seed": 3}\n')
    none = {"prompt": None, "prompt_ids": None}
    found = read_prompts({**none, "prompts": str(path)}, SAMPLE, Letters())
    rows = [text for _, text in written(decoder(), requests(found, MODEL, SAMPLE, True, Letters()), Letters())]
    greedy = run("ab", sample=replace(SAMPLE, temperature=0.0, max_new_tokens=5))[0]
    assert rows[0].ids == run("ab")[0].ids and rows[1].ids == greedy.ids and len(greedy.ids) == 5


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"num_return_sequences": 2, "temperature": 0.0}, ("num_return_sequences", "config.sample.temperature")),
        ({"stop_strings": ("a", "")}, ("config.sample.stop_strings", "empty")),
        ({"stop_token_ids": (300,)}, ("300", "config.sample.stop_token_ids", "0 to 256")),
        ({"logprobs": 258}, ("258", "config.sample.logprobs", "0 to 257")),
    ],
)
def test_settings_that_contradict_are_refused(changes, words):
    with pytest.raises(UserError) as error:
        run("ab", sample=replace(SAMPLE, **changes))
    assert all(word in str(error.value) for word in words), str(error.value)


def test_stop_strings_need_a_tokenizer():
    asked = requests([Prompt([1], None, "p")], MODEL, replace(SAMPLE, stop_strings="a"), True, None)
    with pytest.raises(UserError, match="stop_token_ids"):
        list(written(decoder(), asked, None))


def test_what_is_reported_of_tokens():
    """All of it against the uncached model."""
    sample = replace(SAMPLE, logprobs=3, prompt_logprobs=True, temperature=0.5)
    row, plain = run("hello", sample=sample)[0], run("hello", sample=replace(SAMPLE, temperature=0.5))[0]
    assert row.ids == plain.ids and plain.entropy is plain.prompt_logprobs is None
    scores_TV = np.asarray(logits(MODEL, parameters(MODEL), np.array([row.prompt_ids + row.ids]))[0])
    logs_TV = np.asarray(jax.nn.log_softmax(scores_TV))
    final_TV = np.asarray(jax.nn.log_softmax(scores_TV / 0.5))
    close = functools.partial(np.testing.assert_allclose, atol=1e-4)
    assert row.prompt_logprobs[0] is None
    close(row.prompt_logprobs[1:], [logs_TV[t, row.prompt_ids[t + 1]] for t in range(4)])
    new_TV, final_TV = logs_TV[4:-1], final_TV[4:-1]
    at = np.arange(24)
    close(row.logprobs, new_TV[at, row.ids])
    close(row.final_logprobs, final_TV[at, row.ids])
    close(row.entropy, -(np.exp(new_TV) * new_TV).sum(1))
    top = np.array(row.top_ids)
    close(row.top_logprobs, np.sort(new_TV, axis=1)[:, :-4:-1])
    close(row.top_logprobs, np.take_along_axis(new_TV, top, axis=1))
    close(row.final_top_logprobs, np.take_along_axis(final_TV, top, axis=1))


def test_log_probabilities_of_a_prompt_beyond_the_context_are_refused_before_it_is_continued():
    sample = replace(SAMPLE, prompt_logprobs=True, beyond_context="reread")
    assert requests([Prompt([1] * 65, None, "p")], MODEL, sample, True, None)
    with pytest.raises(UserError, match="prompt_logprobs of a prompt of 66 tokens"):
        requests([Prompt([1] * 66, None, "p")], MODEL, sample, True, None)


def test_the_log_probabilities_of_a_single_token_and_a_whole_context():
    assert likelihoods(decoder(), [[5]])[0].logprobs == []
    ids = np.random.default_rng(0).integers(257, size=64).tolist()
    logs_TV = np.asarray(jax.nn.log_softmax(logits(MODEL, parameters(MODEL), np.array([ids]))[0]))
    np.testing.assert_allclose(likelihoods(decoder(), [ids])[0].logprobs, logs_TV[np.arange(63), ids[1:]], atol=1e-4)
