"""Rewards that check an answer against its row."""

import itertools
import random
import re
import warnings

import pytest

from gpt_jax import registry
from gpt_jax.errors import UserError
from gpt_jax.judge.verifiers.expressions import LONGEST, read
from tests.train import tiny
from tests.train.rewards.completions import completion, rewarded

DIALOGUE = [{"role": "user", "content": "Hello"}, {"role": "user", "content": "12 + 7 = ?"}]


def rows(call: str):
    return registry.build("data.sources", call, tiny.config()).train


def test_expressions_are_those_of_python():
    draw = random.Random(0)
    read_ones = 0
    for _ in range(3000):
        text = "".join(draw.choices("1023+-*() ", k=draw.randint(1, 9)))
        found = read(text)
        try:
            with warnings.catch_warnings(action="ignore"):  # "(3)(7)" calls a number
                wanted = eval(text)
        except (SyntaxError, TypeError):
            wanted = None
        if found is None:  # of what Python reads, also powers, tuples and unary plus
            assert not isinstance(wanted, int) or "**" in text or "+" in text
        else:
            read_ones += 1
            assert found.value == wanted and found.numbers == tuple(map(int, re.findall("[0-9]+", text)))
    assert read_ones > 200


def test_what_is_no_expression_of_whole_numbers():
    for text in (
        "2**3",
        "1/2",
        "7//2",
        "1.5",
        "1_0",
        "007",
        "True",
        "x",
        "3 7",
        "(3)(7)",
        "()",
        "3,7",
        "1<2",
        "",
        "+1",
    ):
        assert read(text) is None, text
    assert read("(" * 400 + "1" + ")" * 400) is None and read("1" + "+1" * LONGEST) is None
    assert read("9" * LONGEST).value == 10**LONGEST - 1 and read("-" * (LONGEST - 1) + "1").value == -1
    assert read("-(3-5)*2").numbers == (3, 5, 2)


def test_the_last_number_is_that_of_the_row():
    texts = {"19": 1, "It is 19.": 1, "12+7=19": 1, "19.0": 1, "1 9": 0, "191": 0, "-19": 0, "12-19": 1, "19 or 20": 0}
    texts |= {"": 0, "nineteen": 0, "20\n19\n": 1, "0019": 1}
    assert rewarded("arithmetic", *(completion(text, answer="19") for text in texts)) == list(texts.values())
    for answer, text, wanted in (
        (-5, "= -5", 1), (-5, "=-5", 1), (-5, "2-5", 0), (1900, "1,900", 1), ("#### 1,900", "1900 apples", 1),
        (0.5, "so 0.50", 1), ("7", "3,7", 1), (4, "2,4", 1),
    ):  # fmt: skip
        assert rewarded("arithmetic", completion(text, answer=answer)) == [wanted], text
    assert rewarded("arithmetic(field='n')", completion("3", n=3, answer=4)) == [1]


def test_without_an_answer_the_prompt_says_what_is_right():
    given = [completion(text, prompt="2+3*4=") for text in ("14", "2+12=14", "20")]
    assert rewarded("arithmetic", *given) == [1, 1, 0]
    assert rewarded("arithmetic", completion("It is 19", prompt=DIALOGUE)) == [1]
    assert rewarded("arithmetic", completion("19", prompt="Who?"), completion("19", answer="none")) == [None, None]


@pytest.mark.parametrize("call", ["arithmetic(terms=4, steps=True)", "arithmetic(digits=12, terms=16, steps=True)"])
def test_what_the_source_of_sums_answers_is_right(call):
    for row in rows(call)[:100]:
        right = completion(row["completion"], **row)
        wrong = completion(row["completion"] + "0", **{**row, "answer": str(int(row["answer"]) or 1)})
        asked = completion(row["completion"], prompt=row["prompt"])
        assert rewarded("arithmetic", right, asked, wrong) == [1, 1, 0]


def counted(text: str, numbers=(3, 7, 8), target=29, call: str = "countdown") -> float | None:
    return rewarded(call, completion(text, numbers=list(numbers), target=target))[0]


def test_countdown_is_an_expression_over_the_numbers():
    for text in ("3*7+8", "8+7*3", " (3 * 7) + 8 ", "8--3*7", "3*7+8=29", "3*7+8 = 29", "Let me see.\n3*7+8\n\n"):
        assert counted(text) == 1, text
    for text in (
        *("3*7+9", "3*7", "29", "3*7+8=30", "3*7+8=29=29", "3*7+8+0", "3*7+8.", "x", "", "\n", "3*7+8\nso it is"),
        *("21+8", "3*7*1+8", "3*7+8-7+7", "2**3", "= 29", "37-8", "__import__('os')"),
    ):
        assert counted(text) == 0, text
    assert counted("3*7", target=21) == 1 and counted("3*7", target=21, call="countdown(every=True)") == 0
    assert counted("3*7+8", call="countdown(every=True)") == 1
    assert counted("3+3", (3, 3, 5), 6) == 1 and counted("3+3", (3, 5), 6) == 0
    assert counted("3-5", (3, 5), -2) == 1


def test_countdown_agrees_with_all_expressions_of_three_numbers():
    numbers, right = (2, 3, 4), set()
    for (a, b, c), (one, other) in itertools.product(
        itertools.permutations(numbers), itertools.product("+-*", repeat=2)
    ):
        for text in (f"({a}{one}{b}){other}{c}", f"{a}{one}({b}{other}{c})"):
            value = eval(text)
            right.add(value)
            assert counted(text, numbers, value, "countdown(every=True)") == 1
            assert counted(text, numbers, value + 1) == 0 and counted(text, (2, 3, 3), value) == 0
    assert len(right) == 20


def test_what_the_source_of_countdown_answers_is_right():
    for row in rows("countdown(numbers=6, largest=50)")[:300]:
        assert counted(row["completion"], row["numbers"], row["target"], "countdown(every=True)") == 1


def test_a_row_that_lacks_a_field_has_no_reward_and_one_that_is_wrong_is_named():
    assert rewarded("countdown", completion("3", numbers=[3]), completion("3", target=3)) == [None, None]
    for numbers, target in (("3 7", 3), ([3, "7"], 3), ([3], "3"), ([3], True), (None, 3)):
        with pytest.raises(UserError, match="whole number"):
            rewarded("countdown", completion("3", numbers=numbers, target=target))


def test_kind_is_what_preferences_prefer():
    for row in rows("preferences(style='unlike', count=200)"):
        given = [completion(row[side], prompt=row["prompt"]) for side in ("chosen", "rejected")]
        assert rewarded("kind", *given) == [1, 0]
        said = [{"role": "user", "content": row["prompt"]}]
        assert rewarded("kind", completion(row["chosen"], prompt=said)) == [1]


@pytest.mark.parametrize(
    "text, value",
    [
        ("The dog of the king is red and happy.", 1),
        (" I saw a red dog. It was happy. ", 1),
        ("The cat of the king is red and happy.", 0),  # nobody asked
        ("The dog of the queen is red and happy.", 0),
        ("The dog of the king is red and sad.", 0),
        ("The dog of the king is happy and happy.", 0),
        ("The dog of the king is red and happy", 0),
        ("The dog of the king is red and happy. happy", 0),
        ("happy happy happy", 0),
        ("", 0),
    ],
)
def test_kind_reads_whole_sentences_about_what_was_asked(text, value):
    assert rewarded("kind", completion(text, prompt="Describe the dog of the king.")) == [value]
    assert rewarded("kind", completion(text, prompt="Describe the dog.")) == [None]
