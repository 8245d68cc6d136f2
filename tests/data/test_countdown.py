"""Puzzles of Countdown: their solutions, their sides, and how they are drawn."""

import re

import pytest

from gpt_jax import registry
from gpt_jax.data.rows.fields import row_of
from gpt_jax.data.rows.generated import Draw
from gpt_jax.data.sources.countdown.puzzles import puzzle
from gpt_jax.data.tasks import generator
from tests.data.refusals import refused


@pytest.fixture
def source(make_config):
    return lambda call, **data: registry.build("data.sources", call, make_config(**data))


@pytest.mark.parametrize("call", ["countdown(numbers=2)", "countdown()", "countdown(numbers=7, largest=99)"])
def test_each_has_a_solution_with_all_numbers_once(call, source):
    made = source(call)
    arguments = registry.parse(call)[1]
    largest = arguments.get("largest", 20)
    for row in (*made.train[:400], *made.valid[:50]):
        numbers, target, solution = row["numbers"], row["target"], row["completion"]
        assert len(numbers) == arguments.get("numbers", 3) and 1 <= min(numbers) and max(numbers) <= largest
        assert eval(solution) == target and 1 <= target <= 10 * largest and target not in numbers
        assert sorted(map(int, re.findall(r"\d+", solution))) == sorted(numbers)
        assert row["prompt"] == f"{target} from {' '.join(map(str, numbers))}:"
    assert len({row["target"] for row in made.train[:400]}) > 50


def test_parentheses_stand_only_where_the_value_is_another_without_them(source):
    """But for factors of 1, in 1*(3+4)."""
    changes = []
    for row in source("countdown(numbers=5)").train[:300]:
        solution = row["completion"]
        for found in re.finditer(r"\(", solution):
            depth, end = 1, found.end()
            while depth:
                depth += {"(": 1, ")": -1}.get(solution[end], 0)
                end += 1
            changes.append(
                eval(solution[: found.start()] + solution[found.end() : end - 1] + solution[end:]) != row["target"]
            )
    assert len(changes) > 100 and sum(changes) > 0.9 * len(changes)


@pytest.mark.parametrize("operations", ["+", "*", "+-", "-*"])
def test_solutions_have_the_operations_that_are_asked_for(operations, source):
    rows = source(f"countdown(operations={operations!r}, largest=50)").train[:200]
    assert {sign for row in rows for sign in re.findall(r"[^\d()]", row["completion"])} == set(operations)


def test_what_is_held_out_is_held_out_in_any_order(source):
    made = source("countdown(numbers=2, largest=9, count=3000, valid=300)", valid_fraction=0.3)
    train, valid = ({(*sorted(row["numbers"]), row["target"]) for row in side} for side in (made.train, made.valid))
    orders = {tuple(row["numbers"]) for row in made.train[:3000]}
    assert (
        not train & valid
        and 20 < len(valid) < len(train)
        and any(order[::-1] in orders for order in orders if order[0] != order[1])
    )


def test_a_value_on_the_way_is_never_below_1_nor_far_above_the_numbers():
    for i in range(300):
        found = puzzle(Draw(generator(0, 0, i)), 6, 30, "+-*")
        assert all(1 <= eval(part) <= 300 for part in re.findall(r"\([^()]*\)", found.solution))


def test_rows_from_a_file_keep_the_fields_that_the_verifier_reads(source):
    row = dict(source("countdown()").train[0])
    assert row_of(row, {}) == row


@pytest.mark.parametrize(
    "call, message",
    [
        ("countdown(operations='/')", "operations='/'"),
        ("countdown(operations='')", "operations=''"),
        ("countdown(numbers=8, largest=1000, operations='*')", "hardly any 8 numbers"),
        ("countdown(numbers=2, largest=2, operations='-')", "hardly any 2 numbers"),
        ("countdown(numbers=9)", "out of range"),
    ],
)
def test_what_makes_no_puzzles_is_refused(call, message, make_config):
    error = refused(make_config(source=call, tokenizer="bytes"), message)
    assert error.where == "config.data.source" and (error.fix or error.allowed)
