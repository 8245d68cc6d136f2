"""Translations that a programme makes: another programme reads them back."""

import datetime
import re


def value(name: str) -> int:
    """Of an English numeral."""
    ones = (
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen".split()
    )
    ones += "seventeen eighteen nineteen".split()
    tens = "_ _ twenty thirty forty fifty sixty seventy eighty ninety".split()
    total = group = 0
    for word in name.replace("-", " ").split():
        if word in ones:
            group += ones.index(word)
        elif word in tens:
            group += 10 * tens.index(word)
        elif word == "hundred":
            group *= 100
        else:
            total, group = total + group * {"thousand": 1000, "million": 10**6}[word], 0
    return total + group


def test_numerals_are_right(source):
    rows = source("translation(pair='numerals', direction='both', count=500)").train
    for row in rows:
        number, name = (row["prompt"], row["completion"])[:: 1 if row["direction"] == "forth" else -1]
        assert value(name) == int(number) and str(int(number)) == number
    assert {row["direction"] for row in rows} == {"forth", "back"}


def test_dates_are_right(source):
    months = [datetime.date(2000, month, 1).strftime("%B") for month in range(1, 13)]
    firsts = {"first": "one", "second": "two", "third": "three", "fifth": "five", "eighth": "eight", "ninth": "nine"}
    firsts |= {"twelfth": "twelve", "twentieth": "twenty", "thirtieth": "thirty"}
    sides = source("translation(count=500, valid=100)")
    for row in (*sides.train, *sides.valid):
        date = datetime.date.fromisoformat(row["prompt"])
        day, month, year = re.fullmatch(r"the (\S+) of (\w+) (.+)", row["completion"]).groups()
        last = day.rpartition("-")[2]
        day = day.removesuffix(last) + (firsts[last] if last in firsts else last.removesuffix("th"))
        assert (value(day), months.index(month) + 1) == (date.day, date.month)
        if "thousand" in year:
            assert value(year) == date.year
        else:
            century = next(words for words in ("nineteen", "twenty") if year.startswith(words))
            rest = year.removeprefix(century).strip().removeprefix("oh ").replace("hundred", "zero")
            assert 100 * value(century) + value(rest) == date.year
    held = {row["prompt"][5:] for row in sides.valid}
    assert not held & {row["prompt"][5:] for row in sides.train}


def test_the_made_up_language_follows_its_grammar(source):
    from gpt_jax.data.sources.translation.toy import ADJECTIVES, NOUNS, VERBS

    stems = dict(ADJECTIVES)
    found = []
    sides = source("translation(pair='toy', count=800, valid=100)")
    for rows in (sides.train, sides.valid):
        pairs = set()
        for row in rows:
            english, verb, other = re.fullmatch(r"the (.+?) (\w+) the (.+)", row["prompt"]).groups()
            (one, many, *said) = next(forms for forms in VERBS if verb in forms[:2])
            number = (one, many).index(verb)
            output = row["completion"].split()
            subject = next(noun for noun in NOUNS if noun[number] == english.split()[-1])
            wanted = [subject[2 + number], *(stems[word] + "oi"[number] for word in english.split()[:-1])]
            assert output[: len(wanted)] == wanted and output[-2:] == ["ka", said[number]]
            rest = output[len(wanted) : -2]
            noun = next(noun for noun in NOUNS if rest[0] in noun[2:])
            number = noun[2:].index(rest[0])
            assert noun[number] == other.split()[-1]
            assert rest[1:] == [stems[word] + "oi"[number] for word in other.split()[:-1]]
            pairs.add((subject[0], many))
        found.append(pairs)
    assert not found[0] & found[1]
    assert {noun for noun, _ in found[1]} <= {noun for noun, _ in found[0]}
