"""Programming tasks: their tests hold of their programmes and of no other function, and sides share none."""

import re

import pytest

from gpt_jax import registry
from tests.train.rewards.completions import completion, rewarded


@pytest.fixture
def source(make_config):
    return lambda call, **data: registry.build("data.sources", call, make_config(**data))


def function(row) -> tuple[int, int]:
    """What x is multiplied by, and what is added, by the words of the prompt."""
    factor, constant = 1, 0
    for word, number in re.findall(r"(plus|minus|times) (\d+)", row["prompt"]):
        n = int(number)
        by, more = {"plus": (1, n), "minus": (1, -n), "times": (n, 0)}[word]
        factor, constant = factor * by, constant * by + more
    return factor, constant


@pytest.mark.parametrize("call", ["programs()", "programs(steps=1, largest=9)", "programs(steps=6)"])
def test_the_tests_are_those_of_the_prompt_and_the_programme_passes_them(call, source):
    made = source(call)
    for row in (*made.train[:400], *made.valid[:50]):
        names: dict = {}
        exec(row["completion"], names)
        factor, constant = function(row)
        assert all(names["f"](x) == factor * x + constant for x in range(-20, 20))
        found = [re.fullmatch(r"assert f\((-?\d+)\) == (-?\d+)", test).groups() for test in row["tests"]]
        assert len(dict(found)) == 3 and all(factor * int(x) + constant == int(y) for x, y in found)
    assert {word for row in made.train[:100] for word in row["prompt"].split()} >= {"plus", "minus", "times"}


def test_no_function_is_on_both_sides(source):
    made = source("programs(largest=9, count=3000, valid=300)", valid_fraction=0.3)
    train, valid = ({function(row) for row in side} for side in (made.train, made.valid))
    assert not train & valid and 20 < len(valid) < len(train)
    prompts: dict = {}
    for row in made.train[:3000]:
        prompts.setdefault(function(row), set()).add(row["prompt"])
    assert any(len(same) > 1 for same in prompts.values())


def test_the_reward_of_code_reads_its_rows(source):
    rows = source("programs(steps=3)").train[:20]
    right = [completion(row["completion"], **row) for row in rows]
    other = [completion(row["completion"] + " + 1", **row) for row in rows]
    assert rewarded("code(run=True)", *right, *other) == [1.0] * 20 + [0.0] * 20
