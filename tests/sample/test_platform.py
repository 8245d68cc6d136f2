"""What accelerators compile, on a CPU: the same tokens, and a program in which nothing waits for the host."""

import dataclasses
import functools
import re

import jax
import numpy as np
import pytest

from gpt_jax.sample import decode
from gpt_jax.sample.decode import Decoder, Sampling
from gpt_jax.sample.platform import ACCELERATOR, CPU
from tests.model.variants import config, parameters

C = config(context=64)
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
        Sampling(0.0),
        Sampling(1.0),
        Sampling(1.0, top_k=5),
        Sampling(1.0, top_p=0.7),
        Sampling([0.0, 1.0, 2.0], [0, 3, 9], [1.0, 0.5, 0.9]),
    ],
)
def test_tokens_are_those_of_the_cpu(sampling):
    assert_same(run(FOUR, sampling), run(CPU, sampling))
    stop = run(CPU, sampling).tokens[1][5]
    stopped = dataclasses.replace(sampling, stop_ids=(stop,))
    assert_same(run(FOUR, stopped), run(CPU, stopped))
    assert any(row[-1] == stop and len(row) < NEW for row in run(FOUR, stopped).tokens)


@pytest.mark.parametrize("new", [1, 5, [5, 0, 12], [0, 0, 9]])
def test_lengths_are_those_of_the_cpu(new):
    assert_same(run(FOUR, Sampling(1.0), new), run(CPU, Sampling(1.0), new))


def test_rows_that_fill_up_a_batch_are_not_seen():
    five = dataclasses.replace(FOUR, multiple=5)
    assert [five.rows(count) for count in (1, 2, 5, 6)] == [1, 5, 5, 10] and FOUR.rows(3) == 3
    warm = Sampling([0.0, 1.0, 2.0], stop_ids=(run(CPU, Sampling(1.0)).tokens[1][5],))
    asked = dict(max_new_tokens=[NEW, 5, 0], sampling=warm, seeds=[5, 6, 7])
    assert_same(decoder(five).generate(GIVEN, **asked), decoder(CPU).generate(GIVEN, **asked))


@pytest.mark.parametrize("every", [1, 3, 4, 100])
@pytest.mark.parametrize("stop", [False, True])
def test_parts_do_not_depend_on_what_a_call_writes(every, stop):
    sampling = Sampling(1.0, stop_ids=(run(CPU, Sampling(1.0)).tokens[2][6],) if stop else ())
    asked = dict(max_new_tokens=[NEW, 2, 7], sampling=sampling, seeds=[5, 6, 7], every=every)
    parts = {platform: list(decoder(platform).stream(GIVEN, **asked)) for platform in (CPU, FOUR)}
    assert [part.tokens for part in parts[FOUR]] == [part.tokens for part in parts[CPU]]


def test_no_more_than_one_call_is_made_after_all_rows_have_stopped(monkeypatch):
    first = run(FOUR, Sampling(0.0), 1).tokens
    prefill, advance = decode.compiled(FOUR, False)
    calls = []
    monkeypatch.setattr(decode, "compiled", lambda *_: (prefill, lambda *given: calls.append(given) or advance(*given)))
    stopped = Sampling(0.0, stop_ids=(first[0][0],))
    got = decoder(FOUR).generate(GIVEN[:1], max_new_tokens=40, sampling=stopped, seeds=[0])
    assert got.tokens == first[:1] and len(calls) == 1


def lowered(platform, sampling):
    """The program of the loop as it is compiled for a GPU, in StableHLO."""
    program = decode.program_of(C, platform, sampling)
    weights = decoder(platform)._weights
    per_row = decode._per_row(sampling, range(3), np.full(3, NEW))
    prompts = np.zeros((3, 16), np.int32), np.ones(3, np.int32)
    state, _ = jax.eval_shape(functools.partial(decode._prefill, program, room=16), weights, *prompts, per_row)
    advance = jax.jit(decode._advance, static_argnames="program")
    return advance.trace(program, weights, state, 3).lower(lowering_platforms=("cuda",)).as_text()


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
    assert conditions
    return [condition for condition in conditions if not re.fullmatch(COUNTED, condition)]


@pytest.mark.parametrize(
    "sampling", [Sampling(0.0), Sampling(1.0), Sampling(1.0, top_k=5, top_p=0.7)], ids=["greedy", "drawn", "filtered"]
)
def test_nothing_on_an_accelerator_waits_for_the_host(sampling):
    text = lowered(ACCELERATOR, sampling)
    assert not waits(text) and not ends_by_data(text)


def test_the_check_finds_what_a_cpu_compiles():
    text = lowered(CPU, Sampling(1.0))
    assert any("case" in found for found in waits(text)) and ends_by_data(text)


def test_greedy_programs_hold_no_random_numbers():
    greedy, drawn = (lowered(ACCELERATOR, Sampling(temperature)) for temperature in (0.0, 1.0))
    assert "threefry" in drawn and "threefry" not in greedy
