"""Families of instructions about a few words: what each asks, in how many ways, and the exact answer."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gpt_jax.data.rows.generated import Draw

# Short and common in programmes and in prose: a tokenizer trained on either has most of them whole.
WORDS = tuple(
    "name list line data key type text value code call file form user error event frame object path class token string "
    "method module header section server source version command message set page".split()
)
LETTERS = tuple("aeio")  # that are counted
PLACES = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth")
Words = list[str]


# Ways to ask for {c}, which begins with a capital letter as {C}, of the words {x}; and for a second thing.
FRAMES = (
    "{C}: {x}",
    "Please {c}: {x}",
    "Here are words: {x}. {C}.",
    "Can you {c}? {x}",
    "{x}. {C}.",
    "I want you to {c}: {x}",
    "Take {x} and {c}.",
    "Now {c}: {x}",
)
SECOND = (
    "Then {c}.",
    "After that, {c}.",
    "Next, {c}.",
    "Now {c}.",
    "Then please {c}.",
    "Finally, {c}.",
    "Then I want you to {c}.",
    "And last, {c}.",
)


@dataclass(frozen=True)
class Family:
    """One kind of task.

    Attributes:
      wordings: three, of what is to be done with {w}, the words; with {a}, {b} for what ``arguments`` draws.
      solve: (words, arguments) -> the answer: words, or a text where it is no list of words.
      arguments: (random choices, words) -> (a, b).
    """

    wordings: tuple[str, str, str]
    solve: Callable[[Words, tuple[str, str]], Words | str]
    arguments: Callable[[Draw, Words], tuple[str, str]] = lambda draw, words: ("", "")

    def request(self, phrasing: int, words: str, arguments: tuple[str, str], second: bool) -> str:
        """Phrasing 3 f + w is wording w in frame f."""
        frame, wording = divmod(phrasing, len(self.wordings))
        asked = self.wordings[wording].format(w="the answer" if second else "the words", a=arguments[0], b=arguments[1])
        return (SECOND if second else FRAMES)[frame].format(c=asked, C=asked[0].upper() + asked[1:], x=words)


def _other(draw: Draw, words: Sequence[str]) -> str:
    return draw.one([word for word in WORDS if word not in words])


def _place(draw: Draw, words: Words) -> tuple[str, str]:
    return draw.one(PLACES[: len(words)]), ""


def _replacement(draw: Draw, words: Words) -> tuple[str, str]:
    return draw.one(words), _other(draw, words)


def _one_of(draw: Draw, words: Words) -> tuple[str, str]:
    return draw.one(words), ""


def _perhaps_one_of(draw: Draw, words: Words) -> tuple[str, str]:
    return (draw.one(words) if draw.chance(0.5) else _other(draw, words)), ""


def _repetitions(draw: Draw, words: Words) -> tuple[str, str]:
    return draw.one(("twice", "three times")), ""


FAMILIES: dict[str, Family] = {
    "reverse": Family(
        ("reverse the order of {w}", "write {w} in reverse order", "put {w} in reverse"),
        lambda words, _: words[::-1],
    ),
    "upper": Family(
        ("write {w} in capital letters", "change {w} to capital letters", "make all letters of {w} capital"),
        lambda words, _: [word.upper() for word in words],
    ),
    "sort": Family(
        ("sort {w} by the alphabet", "write {w} in alphabetical order", "sort {w}"),
        lambda words, _: sorted(words),
    ),
    "nth": Family(
        ("write the {a} of {w}", "find the {a} of {w}", "say which of {w} is the {a}"),
        lambda words, arguments: [words[PLACES.index(arguments[0])]],
        _place,
    ),
    "repeat": Family(
        ("repeat {w} {a}", "write {w} {a}", "say {w} {a}"),
        lambda words, arguments: words * {"twice": 2, "three times": 3}[arguments[0]],
        _repetitions,
    ),
    "join": Family(
        ("join {w} with a dash", "write {w} with a dash between them", "put a dash between {w}"),
        lambda words, _: "-".join(words),
    ),
    "initials": Family(
        ("write the initials of {w}", "find the first letter of each of {w}", "take only the initials of {w}"),
        lambda words, _: [word[0] for word in words],
    ),
    "contains": Family(
        ("say yes or no: is {a} in {w}", "say if {a} is one of {w}", "tell me whether {a} is in {w}"),
        lambda words, arguments: "yes" if arguments[0] in words else "no",
        _perhaps_one_of,
    ),
    "swap": Family(
        ("swap the first and last of {w}", "write {w} with first and last swapped", "swap both ends of {w}"),
        lambda words, _: [words[-1], *words[1:-1], words[0]],  # of two words or more
    ),
    "count": Family(
        (
            "count the letter {a} in {w}",
            "say how many letters {a} are in {w}",
            "write the number of letters {a} in {w}",
        ),
        lambda words, arguments: str("".join(words).count(arguments[0])),
        lambda draw, words: (draw.one(LETTERS), ""),
    ),
    "remove": Family(
        ("remove {a} from {w}", "write {w} without {a}", "leave {a} out of {w}"),
        lambda words, arguments: [word for word in words if word != arguments[0]],
        _one_of,
    ),
    "replace": Family(
        ("replace {a} with {b} in {w}", "write {w} with {b} in place of {a}", "change {a} to {b} in {w}"),
        lambda words, arguments: [arguments[1] if word == arguments[0] else word for word in words],
        _replacement,
    ),
}
