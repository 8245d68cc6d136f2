"""A content filter lets no part of a match through, however a text is cut into pieces."""

import json
import random
import re

import openai
import pytest

import launch
from gpt_jax.errors import UserError
from gpt_jax.serve.moderation import classifier, filters
from gpt_jax.serve.moderation.filters import FilteredText, Look, forbidden
from tests.serve import served
from tests.serve.test_bounds import metric
from tests.train import tiny

RULES = "# not to be said\nbadger\nred  fox\n/\\d{3}-\\d{4}/\n/ab+c/\n\n/(?i)x.*y/\n"
PLAIN = [r"(?<!\w)(?i:badger)(?!\w)", r"(?<!\w)(?i:red\s+fox)(?!\w)", r"\d{3}-\d{4}", r"ab+c", r"(?i:x.*y)"]
ALPHABET = [
    "badger",
    "Badger",
    "badge",
    "r",
    "s",
    " ",
    "red",
    "\n",
    "fox",
    "555",
    "-",
    "1234",
    "a",
    "b",
    "bb",
    "c",
    "x",
    "Y",
]


@pytest.fixture(scope="module")
def rules(tmp_path_factory):
    path = tmp_path_factory.mktemp("rules") / "words.txt"
    path.write_text(RULES)
    return filters.read(path)


def first(text):
    """Where the first match begins, by Python's own regular expressions."""
    return min((found.start() for plain in PLAIN if (found := re.search(plain, text))), default=None)


@pytest.mark.parametrize("seed", range(200))
def test_a_text_in_pieces_ends_where_the_first_match_begins(rules, seed):
    draw = random.Random(seed)
    pieces = draw.choices(ALPHABET, k=draw.randint(1, 30))
    text, stream = "".join(pieces), FilteredText(rules)
    sent = []
    for i, piece in enumerate(pieces):
        sent.append(stream.write(piece))
        so_far = "".join(pieces[: i + 1])
        assert so_far.startswith("".join(sent))
    sent.append(stream.write("", True))
    at = first(text)
    assert "".join(sent) == (text if at is None else text[:at]), text
    assert (stream.broken is None) == (at is None)
    assert (forbidden(rules, text) is None) == (at is None)


def test_what_may_become_a_match_waits(rules):
    stream = FilteredText(rules)
    assert [stream.write(piece) for piece in ("a bad", "ge ", "bad", "gers ", "BADGER", "!")] == [
        "a ", "badge ", "", "badgers ", "", "",
    ]  # fmt: skip
    assert stream.broken.name == "line 2" and stream.write("more", True) == ""


def test_a_match_may_begin_in_the_prompt(rules):
    stream = FilteredText(rules, "call 555-12")
    assert stream.write("3") == "" and stream.write("4 now") == "" and stream.broken.name == "line 4"
    assert FilteredText(rules, "bad").write("ness", True) == "ness"


def test_an_expression_that_takes_too_long_acts(tmp_path):
    (tmp_path / "slow.txt").write_text("/(a|aa)+$/\n")
    stream = FilteredText(filters.read(tmp_path / "slow.txt"))
    assert stream.write("a" * 60 + "b" + "a" * 60 + "b", True) == "" and stream.broken is not None


@pytest.mark.parametrize("line, what", [("/(/", "no regular expression"), ("/a*/", "matches where there is nothing")])
def test_bad_rules_are_named(tmp_path, line, what):
    (tmp_path / "words.txt").write_text(f"badger\n{line}\n")
    with pytest.raises(UserError, match=what) as error:
        filters.read(tmp_path / "words.txt")
    assert error.value.where.endswith("words.txt:2")
    (tmp_path / "words.txt").write_text("# nothing\n")
    with pytest.raises(UserError, match="no rule"):
        filters.read(tmp_path / "words.txt")


class Counting:
    """As a classifier: sentences are held back until they were judged."""

    name = "class bad"

    def look(self, text, start, final):
        end = len(text) if final else max(text.rfind("."), start)
        return Look(start if "q" in text[start:end] else None, end)


def test_prompts_and_answers_are_filtered(workdirs, tmp_path):
    with served.serving([workdirs["plain"], workdirs["chat"]]) as running:
        given = {"model": "plain", "prompt": "the cat", "max_tokens": 60, "seed": 3}
        text = running.client().completions.create(**given).choices[0].text
    letter = next(c for c in text[3:] if c.isascii() and c.isalpha())
    (tmp_path / "rules.txt").write_text(f"/{letter}/\nsecret word\n")
    rules = filters.read(tmp_path / "rules.txt")
    given["prompt"] = "the cat" if letter not in "the cat" else given["prompt"]
    rules = rules if letter not in given["prompt"] else rules[1:]
    with served.serving([workdirs["plain"], workdirs["chat"]], rules=rules) as running:
        client = running.client()
        with pytest.raises(openai.BadRequestError) as error:
            client.completions.create(**given | {"prompt": "a SECRET  word"})
        assert error.value.code == "content_filter"
        with pytest.raises(openai.BadRequestError):
            client.chat.completions.create(model="chat", messages=[{"role": "user", "content": "secret word"}])
        assert metric(running, "gpt_jax_filter_actions_total", side="prompt", rule="line 2") == 2
        (choice,) = client.completions.create(**given, logprobs=2).choices
        if letter not in given["prompt"]:
            assert choice.text == text[: text.find(letter)] and choice.finish_reason == "content_filter"
            assert not any(letter in token for token in choice.logprobs.tokens)
            parts = list(client.completions.create(**given, stream=True))
            assert "".join(part.choices[0].text for part in parts) == choice.text
            assert metric(running, "gpt_jax_filter_actions_total", side="answer", rule="line 1") == 2


def test_a_rule_that_judges_sentences_holds_them_back():
    stream = FilteredText([Counting()])
    assert [stream.write(piece) for piece in ("one tw", "o. thr", "ee q", " four. five")] == ["", "one two", "", ""]
    assert stream.broken.name == "class bad"


def test_a_run_that_classifies_is_a_rule(tmp_path):
    rows = [{"text": text, "class": i} for n in range(40) for i, text in enumerate((f"the cat {n}.", f"a dog {n}."))]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    argv = tiny.command(tmp_path / "rows.jsonl", tmp_path / "judge", tune__objective="classify(classes=2)")
    argv = [word for word in argv if "data.source" not in word]
    argv += [f"--config.data.source=jsonl(path={str(tmp_path / 'rows.jsonl')!r})", "--config.model.context=64"]
    assert launch.main([*argv, "--config.train.steps=30", "--config.train.batch=8", "--config.optim.lr=0.01"]) == 0
    with pytest.raises(UserError, match="which class") as error:
        classifier.read(tmp_path / "judge", "", 0.5)
    assert error.value.allowed == "0, 1"
    rule = classifier.read(tmp_path / "judge", "1", 0.5)
    assert forbidden([rule], "a dog 7.") is rule and forbidden([rule], "the cat 7.") is None
    stream = FilteredText([rule])
    sent = [stream.write(piece) for piece in ("the ", "cat 7. ", "a do", "g 7.", " x")]
    assert sent[:2] == ["", "the cat 7."] and "dog" not in "".join(sent) and stream.broken is rule
