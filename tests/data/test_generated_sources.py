"""Sources of examples that a programme makes: the same again, sides apart, answers that another programme finds too."""

import re

import numpy as np
import pytest

from gpt_jax import registry
from gpt_jax.data.open import open_data
from tests.data.refusals import refused

CALLS = [
    call
    for name in registry.names("data.sources")
    for call in registry.examples("data.sources", name)
    if name in ("instructions", "arithmetic", "countdown", "dialogue", "qa_stories", "translation", "preferences")
    or name in ("needle", "variables")
]


def test_there_are_calls():
    assert len(CALLS) > 8


@pytest.mark.parametrize("call", CALLS)
def test_rows_are_the_same_again_and_on_one_side(call, source):
    one, two = source(call), source(call)
    count = min(len(one.train), 150)
    assert [one.train[i] for i in range(count)] == list(two.train[:count]) and one.digest == two.digest
    assert one.train[3] == two.train[3] and one.train[3] != one.train[4]
    train, valid = ({repr(row) for row in side[:count]} for side in (one.train, one.valid))
    assert valid and not train & valid
    name, arguments = registry.parse(call)
    other = source(f"{name}({', '.join(f'{key}={value!r}' for key, value in {**arguments, 'seed': 1}.items())})")
    assert other.digest != one.digest and other.train[0] != one.train[0]


@pytest.mark.parametrize("call", CALLS)
def test_every_source_opens(call, make_config):
    form = "text"
    name, arguments = registry.parse(call)
    arguments |= {"count": 60, "valid": 10}
    call = f"{name}({', '.join(f'{key}={value!r}' for key, value in arguments.items())})"
    data = open_data(make_config(source=call, tokenizer="bytes", context=512), form)
    batch = data.train.batches(2, 0)[0]
    assert batch["weights"].sum() > 0 and batch["tokens"].shape == (2, 512) and not data.notes[1:]


@pytest.mark.parametrize("form, call", [("pairs", "preferences()"), ("labelled", "preferences(labelled=True)")])
def test_preferences_open_in_the_forms_of_their_objectives(form, call, make_config):
    call = call.replace("(", "(count=60, valid=10, ").replace(", )", ")")
    batch = open_data(make_config(source=call, tokenizer="bytes", context=160), form).train.batches(2, 0)[0]
    assert batch["tokens"].shape == (2, 2, 160) and (batch["weights"].sum(-1) > 10).all()


def test_a_share_is_held_out(source):
    held = {row["prompt"] for row in source("arithmetic(digits=1, operations='+')", valid_fraction=0.3).valid}
    assert 10 < len(held) < 50
    train = {row["prompt"] for row in source("arithmetic(digits=1, operations='+')", valid_fraction=0.3).train[:3000]}
    assert not held & train and len(held | train) == 100
    assert not np.intersect1d(sorted(held), sorted(train)).size


def test_too_few_rows_to_hold_some_out(make_config):
    config = make_config(source="arithmetic(digits=1, operations='+')", tokenizer="bytes", valid_fraction=1e-6)
    assert "variety" in refused(config, "too few different rows").fix


# Instructions: answers worked out anew from the words of the prompt.
HAS = {"twice": 2, "three times": 3}
NTH = ("first", "second", "third", "fourth")


def solved(row) -> str:
    prompt, family = row["prompt"], row["family"]
    words = re.search(r"Here are words: (.+?)\.|^Take (.+?) and |^([a-z ]+)\. |[:?] ([a-z ]+)$", prompt)
    words = next(filter(None, words.groups())).split()
    rest = prompt.replace(" ".join(words), "", 1)
    if family == "reverse":
        return " ".join(reversed(words))
    if family == "upper":
        return " ".join(words).upper()
    if family == "sort":
        return " ".join(sorted(words))
    if family == "nth":
        return next(words[i] for i, name in enumerate(NTH) if name in rest)
    if family == "repeat":
        return " ".join(words * next(n for name, n in HAS.items() if name in rest))
    if family == "swap":
        words[0], words[-1] = words[-1], words[0]
        return " ".join(words)
    if family == "join":
        return "-".join(words)
    if family == "initials":
        return " ".join(word[:1] for word in words)
    if family == "count":
        letter = re.search(r"(?:letter|letters) (\w)\b", rest)[1]
        return str(sum(character == letter for word in words for character in word))
    if family == "remove":
        gone = next(word for word in re.findall(r"\w+", rest) if word in words)
        return " ".join(word for word in words if word != gone)
    if family == "replace":
        old = next(word for word in re.findall(r"\w+", rest) if word in words)
        completion = row["completion"].split()
        new = completion[words.index(old)]
        assert re.search(rf"\b{new}\b", rest)
        return " ".join(new if word == old else word for word in words)
    assert family == "contains"
    return "yes" if set(re.findall(r"\w+", rest)) & set(words) else "no"


def test_instructions_are_answered_exactly(source):
    rows = source("instructions(count=2500, held='none')").train
    seen = set()
    for row in rows:
        assert solved(row) == row["completion"], row
        seen.add((row["family"], row["phrasing"]))
    assert len({family for family, _ in seen}) == 12 and len(seen) > 270
    lengths = [len(row["prompt"]) + len(row["completion"]) for row in rows[:500]]
    assert max(lengths) < 150


def kinds(rows):
    """Families and the numbers of their phrasings."""
    return {pair for row in rows for pair in zip(row["family"].split("+"), row["phrasing"].split("+"), strict=True)}


@pytest.mark.parametrize("steps", [1, 2])
def test_phrasings_and_families_are_held_out(steps, source):
    made = source(f"instructions(count=800, valid=200, steps={steps})")
    train, valid = (kinds(side) for side in (made.train, made.valid))
    assert valid and not train & valid
    for family in {family for family, _ in valid}:
        assert (
            len([1 for one, _ in train if one == family]) <= 18 and len([1 for one, _ in valid if one == family]) <= 6
        )
    assert {number for _, number in train} == {number for _, number in valid} == set(map(str, range(24)))
    made = source(f"instructions(count=800, valid=200, held='families', steps={steps})")
    train = {part for row in made.train for part in row["family"].split("+")}
    valid = {row["family"].split("+")[-1] for row in made.valid}
    assert len(valid) == 3 and len(train) == 9 and not train & valid


def test_compositions_are_held_out_and_their_parts_are_not(source):
    made = source("instructions(count=3000, valid=300, held='compositions', steps=2)")
    train, valid = ({row["family"] for row in side} for side in (made.train, made.valid))
    assert valid and not train & valid and len(train | valid) == 72
    parts = [{part for family in side for part in family.split("+")} for side in (train, valid)]
    assert parts[1] <= parts[0]


def test_two_steps_are_the_second_after_the_first(source):
    ask = {"reverse": "Reverse the words: {}", "upper": "Write in capital letters: {}", "sort": "Sort the words: {}"}
    for row in source("instructions(count=200, steps=2, families=3, held='none')").train:
        first, second = row["prompt"].split("\n")
        assert "the answer" in second
        families, numbers = row["family"].split("+"), row["phrasing"].split("+")
        half = solved({"prompt": first, "family": families[0], "phrasing": numbers[0]})
        assert solved({"prompt": ask[families[1]].format(half), "family": families[1]}) == row["completion"]


def test_arithmetic_is_right(source):
    for call in ("arithmetic(terms=4, digits=3, steps=True)", "arithmetic()"):
        for row in source(call).train[:300]:
            chain = row["prompt"].rstrip("=")
            assert str(eval(chain)) == row["answer"]
            steps = row["completion"].split("=") if "completion" in row else [row["answer"]]
            assert steps[-1] == row["answer"]
            assert all(eval(re.sub("--", "+", step)) == eval(chain) for step in steps)


def test_arithmetic_in_reverse(source):
    plain, reverse = (source(f"arithmetic(digits=3{more})").train[:200] for more in ("", ", reverse=True"))
    for forwards, backwards in zip(plain, reverse, strict=True):
        assert backwards == {"prompt": forwards["prompt"], "answer": forwards["answer"][::-1]}


def test_dialogues_remember(source):
    from gpt_jax.data.sources.dialogue import FACTS

    made = source("dialogue(count=400)").train
    assert {len(row["messages"]) for row in made} == {4, 6, 8, 10, 12} and {row["corrected"] for row in made} == {
        True,
        False,
    }
    for row in made:
        roles = [message["role"] for message in row["messages"]]
        assert roles == ["user", "assistant"] * (len(roles) // 2)
        asked, answer = (message["content"] for message in row["messages"][-2:])
        statement = next(fact for fact in FACTS.values() if fact[3] == asked)[1]
        pattern = re.escape(statement).replace(r"\{\}", r"(\w+)")
        said = [re.search(pattern, message["content"]) for message in row["messages"][:-2:2]]
        turns = [turn for turn, found in enumerate(said) if found]
        assert said[turns[-1]][1] in answer and row["distance"] == len(said) - turns[-1]
        assert (len(turns) == 2) == row["corrected"]
        assert len(turns) == 1 or said[turns[0]][1] not in answer


def told(prompt, kind) -> str:
    """The answer to a story, from its sentences alone."""
    *story, question = re.findall(r"[^.?]+[.?]", prompt)
    question = question.strip()
    if kind == "deduce":
        rules = dict(re.findall(r"(\w+) fear (\w+)\.", prompt))
        species = dict(re.findall(r"(\w+) is a (\w+)\.", prompt))
        one = {"mice": "mouse", "cats": "cat", "wolves": "wolf", "sheep": "sheep", "foxes": "fox", "dogs": "dog"}
        name = re.search(r"does (\w+) fear", question)[1]
        return next(feared for many, feared in rules.items() if one[many.lower()] == species[name])
    where, holder, been = {}, {}, {}
    for sentence in story:
        who, verb, last = sentence.split()[0], sentence.split()[1], sentence.rstrip(".").split()[-1]
        if verb == "went":
            where[who] = last
            for thing in [thing for thing, owner in holder.items() if owner == who]:
                been[thing].append(last)
        elif verb == "took":
            holder[last], been[last] = who, [where[who]]
        elif verb == "dropped":
            del holder[last]
    words = question.rstrip("?").split()
    if kind == "one":
        return where[words[-1]]
    if kind == "two":
        return been[words[-1]][-1]
    if kind == "three":
        return been[words[3]][been[words[3]].index(words[-1]) - 1]
    if kind == "yesno":
        return "yes" if where[words[1]] == words[-1] else "no"
    count = sum(owner == words[-2] for owner in holder.values())
    return ["none", "one", "two", "three", "four", "five"][count]


def test_stories_are_answered_exactly(source):
    rows = source("qa_stories(count=600)").train
    for row in rows:
        assert told(row["prompt"], row["kind"]) == row["completion"], row
    assert {row["kind"] for row in rows} == {"one", "two", "three", "yesno", "count", "deduce"}
    assert {row["kind"] for row in source("qa_stories(kinds=['two'], count=20)").train} == {"two"}


def test_preferences_follow_their_rule(source):
    from gpt_jax.data.sources.preferences import KIND, UNKIND

    def has(text, words):
        return bool(set(re.findall(r"\w+", text)) & set(words))

    for style, differing in (("near", 1), ("unlike", None)):
        for row in source(f"preferences(style={style!r}, count=100)").train:
            assert has(row["chosen"], KIND) and not has(row["chosen"], UNKIND) and has(row["rejected"], UNKIND)
            words = [re.findall(r"\w+", row[side]) for side in ("chosen", "rejected")]
            if differing:
                assert sum(a != b for a, b in zip(*words, strict=True)) == 1
            else:
                assert len(set(words[0]) ^ set(words[1])) > 4
    labelled = source("preferences(labelled=True, count=100)").train
    assert all(has(row["completion"], KIND) == row["label"] for row in labelled)
    assert {row["label"] for row in labelled} == {True, False}
    either = source("preferences(either=True, count=100)").train
    assert all(has(row["completion"], KIND) != has(row["completion"], UNKIND) for row in either)
    assert {has(row["completion"], KIND) for row in either} == {True, False} and set(either[0]) == {
        "prompt",
        "completion",
    }


@pytest.mark.parametrize(
    "call, message",
    [
        ("instructions(held='all')", "held = 'all'"),
        ("instructions(held='compositions')", "have no compositions"),
        ("instructions(held='families', families=1)", "of one family no families"),
        ("instructions(least=5)", "no number is both"),
        ("arithmetic(operations='+/')", "operations='\\+/'"),
        ("arithmetic(operations='')", "operations=''"),
        ("arithmetic(steps=True, reverse=True)", "steps=True, reverse=True"),
        ("dialogue(least=7)", "no number is both"),
        ("qa_stories(kinds=['four'])", "of the kind four"),
        ("qa_stories(least=8)", "no number is both"),
        ("needle(lengths=[0])", "depths from 0 to 1"),
        ("needle(depths=[1.5])", "depths from 0 to 1"),
        ("needle(lengths=[20])", "do not hold the statements"),
        ("variables(lengths=[20])", "do not hold the statements"),
        ("translation(pair='french')", "no pair 'french'"),
        ("translation(direction='up')", "no direction 'up'"),
        ("preferences(style='far')", "no style 'far'"),
        ("preferences(labelled=True, either=True)", "labelled, or have either answer"),
    ],
)
def test_bad_arguments(call, message, make_config):
    refused(make_config(source=call, tokenizer="bytes"), message)
