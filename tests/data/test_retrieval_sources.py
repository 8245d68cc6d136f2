"""Long texts with a place to find in them: what is asked for stands where it is wanted."""

import re

import pytest


@pytest.mark.parametrize("length, depth", [(120, 0.0), (300, 0.5), (300, 1.0)])
def test_a_needle_stands_where_it_is_wanted(length, depth, source):
    for row in source(f"needle(lengths=[{length}], depths=[{depth}], count=40)").train[:40]:
        prompt, said = row["prompt"], re.search(r"The number of the (\w+) is(\d*) (\d+)\.", row["prompt"])
        assert length - 40 < len(prompt) <= length and (row["length"], row["depth"]) == (length, depth)
        assert prompt.endswith(f" The number of the {said[1]} is") and row["answer"] == f" {said[3]}"
        before = prompt[: said.start()].count(".")
        assert abs(before / (prompt.count(".") - 1) - depth) < 0.51 / (prompt.count(".") - 1)


def test_other_needles_give_other_keys(source):
    for row in source("needle(lengths=[400], others=4, count=40)").train[:40]:
        said = dict(re.findall(r"The number of the (\w+) is (\d+)\.", row["prompt"]))
        key = re.search(r"The number of the (\w+) is$", row["prompt"])[1]
        assert len(said) == 5 and row["answer"] == f" {said[key]}"


@pytest.mark.parametrize("hops, others", [(0, 0), (1, 3), (5, 2)])
def test_variables_are_followed(hops, others, source):
    for row in source(f"variables(lengths=[400], hops={hops}, others={others}, count=40)").train[:40]:
        known, followed = {}, 0
        for name, value in re.findall(r"(\w) = (\w+)\.", row["prompt"]):
            followed += value in known
            known[name] = known.get(value, value)  # a value that was not given before could not be followed
        assert len(known) == 1 + hops + others and followed == hops and len(row["prompt"]) <= 400
        assert row["answer"] == f" {known[row['prompt'].split()[-2]]}"


@pytest.mark.parametrize("depth", [0.0, 1.0])
def test_the_first_variable_stands_where_it_is_wanted(depth, source):
    for row in source(f"variables(lengths=[300], depths=[{depth}], others=0, count=20)").train[:20]:
        before = row["prompt"].index(" = ")
        assert before < 2 if depth == 0 else before > 200
