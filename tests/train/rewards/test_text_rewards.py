"""Rewards that a programme computes from the text alone."""

import math
import random
import re
import time

import pytest

from gpt_jax import registry
from gpt_jax.data.sources.preferences import KIND, UNKIND
from gpt_jax.errors import UserError
from gpt_jax.train.rewards import WHERE
from tests.train import tiny
from tests.train.rewards.completions import completion, rewarded

ROOM = "train.rewards"
EXAMPLES = [call for name in registry.names(ROOM) for call in registry.examples(ROOM, name)]
ROW = {
    "answer": 3,
    "result": 4,
    "numbers": [1, 2],
    "target": 3,
    "tests": ["assert True"],
    "prompt": "Describe the dog of the king.",
}
LONG = 200_000
HOSTILE = (
    *(
        "",
        "\x00",
        "\ud800",
        "= ?",
        "٣",
        "½",
        "NaN",
        "1e999",
        "9**9**9**9",
        "().__class__",
        "1 if 1 else 2",
        "lambda: 0",
    ),
    *("9" * LONG, "(" * LONG, "-" * LONG + "1", "1" + "+1" * LONG, "1" + "*9" * LONG, "1," * LONG, "1,111" * LONG),
    *(
        "a" * LONG,
        "a'" * LONG,
        "\n" * LONG,
        " " * LONG,
        "=" * LONG,
        "." * LONG,
        "1." * LONG,
        "9" * 299,
        "-" * 299 + "1",
    ),
)


def refused(call: str, match: str) -> UserError:
    with pytest.raises(UserError, match=match) as error:
        registry.build(ROOM, call, where=WHERE)
    assert error.value.where == WHERE
    return error.value


def test_every_reward_has_an_example_but_the_one_that_reads_a_run():
    assert {registry.parse(call)[0] for call in EXAMPLES} == set(registry.names(ROOM)) - {"model"}


@pytest.mark.every(3)
@pytest.mark.parametrize("call", EXAMPLES)
def test_a_reward_is_a_number_for_whatever_is_written_and_for_each_completion_by_itself(call):
    given = [completion(text, ids=range(len(text)), **ROW) for text in HOSTILE]
    begin = time.process_time()
    values = rewarded(call, *given)
    assert time.process_time() - begin < 5
    assert all(isinstance(value, float) and math.isfinite(value) for value in values)
    assert rewarded(call, *given[::-1]) == values[::-1] and rewarded(call, given[3]) == values[3:4]
    assert rewarded(call) == []


def test_contains():
    assert rewarded("contains(text='dog')", "a dog", "a Dog", "do g", "hotdogs") == [1, 0, 0, 1]
    assert rewarded("contains(text='DoG', ignore_case=True)", "a dog", "a DOG", "cat") == [1, 1, 0]
    refused("contains(text='')", "every completion")


def test_length_is_0_at_its_target_and_falls_on_either_side():
    texts = ["", "one", "one two", "one two\n three ", "a b c d", "a b c d e f"]
    assert rewarded("length(target=2, unit='words')", *texts) == [-1, -0.5, 0, -0.5, -1, -2]
    assert rewarded("length(target=4, unit='characters')", "", "abcd", "ab", "a b c") == [-1, 0, -0.5, -0.25]
    given = [completion("a long text", ids=range(n)) for n in (3, 5, 8)]
    assert rewarded("length(target=5)", *given) == [-0.4, 0, -0.6]
    assert "tokens, words, characters" in refused("length(target=5, unit='lines')", "lines").allowed
    refused("length(target=0)", "out of range")


def test_overlong_is_the_soft_punishment_of_dapo():
    """Equation 13 of Yu et al. 2025, with L_max = 20 and L_cache = 8."""
    wanted = {0: 0, 12: 0, 13: -1 / 8, 16: -0.5, 20: -1, 21: -1, 400: -1}
    given = [completion("", ids=range(n)) for n in wanted]
    assert rewarded("overlong(longest=20, soft=8)", *given) == list(wanted.values())
    assert rewarded("overlong(longest=4, soft=4)", *given[:2]) == [0, -1]
    refused("overlong(longest=8, soft=9)", "soft=9")


PATTERNS = ("a*b", "(ab|ba)+", "(a+)+b", "(?s:.*)ab(?s:.*)", "é?[ab]{2,3}", "", "(a|a)*")


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_pattern_matches_as_a_whole_as_that_of_python_does(pattern):
    draw = random.Random(0)
    texts = ["".join(draw.choices("abé\n", k=draw.randint(0, 6))) for _ in range(300)]
    wanted = [float(bool(re.fullmatch(pattern, text))) for text in texts]
    assert rewarded(f"regex(pattern={pattern!r})", *texts) == wanted
    assert 0 < sum(wanted) < len(texts)


def test_a_pattern_that_would_take_other_libraries_forever_takes_no_longer_than_the_text():
    begin = time.process_time()
    assert rewarded("regex(pattern='(a+)+b')", "a" * 100_000, "a" * 100_000 + "b") == [0, 1]
    assert time.process_time() - begin < 5


@pytest.mark.parametrize("pattern", ["(", "[z-a]", "(?=a)b", r"(a)\1"])
def test_what_is_no_pattern_is_refused(pattern):
    refused(f"regex(pattern={pattern!r})", "no pattern")


def test_words_are_the_share_that_is_on_the_list():
    texts = ["Good dogs.", "a GOOD, fine dog!", "goods", "", "...", "good good fine"]
    assert rewarded("words(words=['good', 'Fine'])", *texts) == [0.5, 0.5, 0, 0, 0, 1]
    assert rewarded("words(words=(\"isn't\", 'well-known'))", "It isn't well-known") == [2 / 3]


def test_words_come_from_a_file(tmp_path):
    path = tmp_path / "kind.txt"
    path.write_text("good fine\nwarm\n")
    assert rewarded(f"words(path={str(path)!r})", "a warm day", "a bad day") == [1 / 3, 0]
    path.write_text("  \n")
    refused(f"words(path={str(path)!r})", "no words")
    path.write_bytes(b"\xff\xfe\xfa")
    refused(f"words(path={str(path)!r})", "cannot be read")
    refused(f"words(path={str(tmp_path / 'none.txt')!r})", "cannot be read")


@pytest.mark.parametrize(
    "call", ["words", "words(words=('a',), path='x')", "words(words=('good day',))", "words(words=(1,))"]
)
def test_what_is_no_list_of_words_is_refused(call):
    refused(call, "list of words|single word")


def test_kind_words_are_worth_more_than_unkind_ones():
    rows = registry.build("data.sources", "preferences(style='unlike')", tiny.config()).train[:200]
    for row in rows:
        chosen, rejected = rewarded(f"words(words={KIND})", row["chosen"], row["rejected"])
        assert chosen > 0 == rejected
        assert rewarded(f"words(words={UNKIND})", row["chosen"], row["rejected"])[0] == 0


def test_ended_is_whether_the_policy_ended_it():
    assert rewarded("ended", completion("a", ended=True), completion("a", ended=False)) == [1, 0]


def test_exact_is_the_text_of_a_field_of_the_row():
    given = [completion(text, answer="red") for text in ("red", " red\n", "Red", "red red")]
    assert rewarded("exact", *given) == [1, 1, 0, 0]
    assert rewarded("exact(field='n')", completion("12", n=12), completion("12"), completion("2", n=12)) == [1, None, 0]
