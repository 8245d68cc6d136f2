"""What accelerators compile, on a CPU: the same tokens, and a program in which nothing waits for the host."""

import dataclasses
import functools
import re

import jax
import numpy as np
import pytest

from gpt_jax import registry
from gpt_jax.data.tokenizers.chars import Chars
from gpt_jax.sample import calls, rows
from gpt_jax.sample.decode import Decoder, Sampling
from gpt_jax.sample.engine import chain, turns
from gpt_jax.sample.engine.program import Sizes
from gpt_jax.sample.knobs import KIND
from gpt_jax.sample.knobs import sampling as plain_sampling
from gpt_jax.sample.platform import ACCELERATOR, CPU
from gpt_jax.sample.processors import Vocabulary
from tests.model.variants import config, parameters
from tests.sample.definitions import Case
from tests.sample.every_processor import step_of

C = config(context=64)
plain = functools.partial(plain_sampling, Vocabulary(C.vocab))
GREEDY, WARM = Sampling(greedy=True), Sampling()
VOCABULARY = Vocabulary(C.vocab, Chars("".join(map(chr, range(48, 48 + C.vocab))), separated=False), (0,))
EXAMPLES = [call for name in registry.names(KIND) for call in registry.examples(KIND, name)]
EVERY = Sampling(tuple(registry.build(KIND, call, VOCABULARY) for call in EXAMPLES), stop_ids=(0,))
FOUR = dataclasses.replace(
    ACCELERATOR, turns=4
)  # so that 12 tokens are several calls, the last of which is not needed whole
NEW = 12
RANDOM = np.random.default_rng(0)
GIVEN = [RANDOM.integers(C.vocab, size=length).tolist() for length in (9, 3, 16)]


@functools.cache
def decoder(platform):
    return Decoder(C, parameters(C), platform)


def run(platform, sampling, new=NEW):
    return decoder(platform).generate(GIVEN, max_new_tokens=new, sampling=sampling, seeds=[5, 6, 7])


def assert_same(got, expected):
    assert got.tokens == expected.tokens
    for ours, theirs in zip(got.logprobs, expected.logprobs, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize(
    "sampling",
    [
        GREEDY,
        WARM,
        plain(top_k=5),
        plain(top_p=0.7),
        [GREEDY, plain(top_k=3, top_p=0.5), plain(temperature=2.0, top_k=9, top_p=0.9)],
    ],
)
def test_tokens_are_those_of_the_cpu(sampling):
    assert_same(run(FOUR, sampling), run(CPU, sampling))
    stop = run(CPU, sampling).tokens[1][5]
    given = sampling if isinstance(sampling, list) else [sampling] * 3
    stopped = [dataclasses.replace(row, stop_ids=(stop,)) for row in given]
    assert_same(run(FOUR, stopped), run(CPU, stopped))
    assert any(row[-1] == stop and len(row) < NEW for row in run(FOUR, stopped).tokens)


@pytest.mark.parametrize("new", [1, 5, [5, 0, 12], [0, 0, 9]])
def test_lengths_are_those_of_the_cpu(new):
    assert_same(run(FOUR, WARM, new), run(CPU, WARM, new))


def test_rows_that_fill_up_a_batch_are_not_seen():
    five = dataclasses.replace(FOUR, multiple=5)
    assert [five.rows(count) for count in (1, 2, 5, 6)] == [1, 5, 5, 10] and FOUR.rows(3) == 3
    warm = dataclasses.replace(plain(temperature=2.0), stop_ids=(run(CPU, WARM).tokens[1][5],))
    asked = dict(max_new_tokens=[NEW, 5, 0], sampling=warm, seeds=[5, 6, 7])
    assert_same(decoder(five).generate(GIVEN, **asked), decoder(CPU).generate(GIVEN, **asked))


@pytest.mark.parametrize("every", [1, 3, 4, 100])
@pytest.mark.parametrize("stop", [False, True])
def test_parts_do_not_depend_on_what_a_call_writes(every, stop):
    sampling = Sampling(stop_ids=(run(CPU, WARM).tokens[2][6],) if stop else ())
    asked = dict(max_new_tokens=[NEW, 2, 7], sampling=sampling, seeds=[5, 6, 7], every=every)
    parts = {platform: list(decoder(platform).stream(GIVEN, **asked)) for platform in (CPU, FOUR)}
    assert [part.tokens for part in parts[FOUR]] == [part.tokens for part in parts[CPU]]


def test_no_more_than_one_call_is_made_after_all_rows_have_stopped(monkeypatch):
    whole = run(CPU, GREEDY, 12).tokens[0]
    prefill, advance, replace = turns.compiled(FOUR, False)
    calls = []

    def counted(*given):
        calls.append(given)
        return advance(*given)

    monkeypatch.setattr(turns, "compiled", lambda *_: (prefill, counted, replace))
    for stop, most in ((whole[0], 0), (whole[2], 2)):
        calls.clear()
        stopped = Sampling(greedy=True, stop_ids=(stop,))
        got = decoder(FOUR).generate(GIVEN[:1], max_new_tokens=40, sampling=stopped, seeds=[0])
        assert got.tokens == [whole[: whole.index(stop) + 1]] and len(calls) <= most


def lowered(platform, sampling):
    """The program of the loop as it is compiled for a GPU, in StableHLO."""
    program, knobs = calls.program_of(C, platform, [sampling] * 3)
    asked = rows.Asked(GIVEN, [NEW] * 3, [sampling] * 3, range(3))
    given, weights = asked.rows(range(3), knobs, 3, 16), decoder(platform).weights
    state, _ = jax.eval_shape(functools.partial(turns._prefill, program, sizes=Sizes(16, 17)), weights, *given)
    advance = jax.jit(turns._advance, static_argnames="program")
    return advance.trace(program, weights, state, 3, 0).lower(lowering_platforms=("cuda",)).as_text()


def waits(text):
    """Lines of StableHLO for which a GPU waits for the host, or that keep its compiler from fusing.

    A choice by a constant is none: that is how JAX lowers a choice by platform, and XLA takes the one branch.
    """
    constants, found = (
        set(),
        re.findall(r"stablehlo\.sort|stablehlo\.custom_call|optimization_barrier|chlo\.top_k", text),
    )
    for line in text.splitlines():
        name, _, operation = line.strip().partition(" = ")
        branch = re.match(r'"stablehlo\.(?:case|if)"\((%\S+)\)', operation)
        if operation.startswith("stablehlo.constant") or (branch and branch[1] in constants):
            constants.add(name)
        elif branch:
            found.append(line)
        else:
            constants.discard(name)
    return found


COUNTED = (
    r"\s*(%\S+ = stablehlo\.constant dense<\d+> : tensor<i32>\s*)?"
    r"%\S+ = stablehlo\.compare +LT, %iterArg\S*, %\S+, .*\s*stablehlo\.return \S+ : tensor<i1>\s*"
)


def ends_by_data(text):
    """Conditions of loops that compare anything but a counter with a constant."""
    conditions = re.findall(r"cond \{(.*?)\} do", text, re.DOTALL)
    assert len(conditions) == text.count("stablehlo.while")
    return [condition for condition in conditions if not re.fullmatch(COUNTED, condition)]


@pytest.mark.parametrize(
    "sampling", [GREEDY, WARM, plain(top_k=5, top_p=0.7), EVERY], ids=["greedy", "drawn", "filtered", "every processor"]
)
def test_nothing_on_an_accelerator_waits_for_the_host(sampling):
    text = lowered(ACCELERATOR, sampling)
    assert not waits(text) and not ends_by_data(text)


def lowered_alone(call, bits):
    """A processor as it is compiled for a GPU."""
    links, knobs = chain.join([[registry.build(KIND, call, VOCABULARY)]])
    scores_BV = np.zeros((1, C.vocab), np.float32)
    step = step_of([Case(scores_BV[0], (1, 2), 1, (0,), ())], bits)
    process = jax.jit(functools.partial(chain.process, links, skips=False))
    return process.trace(knobs, scores_BV, step).lower(lowering_platforms=("cuda",)).as_text()


@pytest.mark.parametrize("call", EXAMPLES)
def test_no_processor_waits_on_an_accelerator(call):
    text = lowered_alone(call, ACCELERATOR.bits)
    assert not waits(text) and not ends_by_data(text)


def test_the_check_finds_what_a_cpu_compiles():
    text = lowered(CPU, WARM)
    assert any("case" in found for found in waits(text)) and ends_by_data(text)
    assert ends_by_data(lowered_alone("no_repeat_ngram(size=2)", CPU.bits))


def test_greedy_programs_hold_no_random_numbers():
    greedy, drawn = (lowered(ACCELERATOR, sampling) for sampling in (GREEDY, WARM))
    assert "threefry" in drawn and "threefry" not in greedy
