"""Short stories and a question about each, after bAbI (Weston et al. 2015): who is where, who has what, who fears whom."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated

from gpt_jax.config import Config
from gpt_jax.data.examples import Examples, Row
from gpt_jax.data.rows.generated import Amount, Draw, generated
from gpt_jax.errors import UserError
from gpt_jax.limits import Limits, Seed
from gpt_jax.registry import register

PEOPLE = ("Mary", "John", "Anna", "Paul", "Lisa", "Mark")
PLACES = ("kitchen", "garden", "office", "hall", "school", "park", "shop")
THINGS = ("ball", "book", "key", "cup", "apple", "hat")
NUMBERS = ("none", "one", "two", "three", "four", "five", "six")
ANIMALS = (
    ("mouse", "mice"),
    ("cat", "cats"),
    ("wolf", "wolves"),
    ("sheep", "sheep"),
    ("fox", "foxes"),
    ("dog", "dogs"),
)
KINDS = ("one", "two", "three", "yesno", "count", "deduce")
STORIES = 200  # of a kind, until one of them can be asked about


@register("data.sources", "qa_stories", examples=("qa_stories(count=200, valid=50)",))
def qa_stories(
    config: Config,
    *,
    count: Amount = 20_000,
    valid: Amount = 500,
    kinds: list[str] | None = None,
    least: Annotated[int, Limits(4, 20)] = 4,
    most: Annotated[int, Limits(4, 20)] = 7,
    seed: Seed = 0,
) -> Examples:
    """{prompt, completion, kind}: a story of ``least`` to ``most`` sentences with a question, and an answer of a word. Whole
    stories are held out.

    Args:
      kinds: of questions, as often each; all where there is no list. one: where somebody is · two: where a thing is, by who
        has it · three: where it was before · yesno: whether somebody is somewhere · count: how many things somebody has ·
        deduce: whom somebody fears, by what he is.

    Raises:
      UserError: an unknown kind.
    """
    chosen = tuple(kinds or KINDS)
    if unknown := set(chosen) - set(KINDS):
        raise UserError(
            f"there are no questions of the kind {', '.join(sorted(unknown))}",
            where="config.data.source",
            allowed=", ".join(KINDS),
        )
    if least > most:
        raise UserError(f"qa_stories(least={least}, most={most}): no number is both", where="config.data.source")

    def make(draw: Draw, held: bool) -> tuple[str, Row]:
        kind, sentences = draw.one(chosen), draw.between(least, most)
        story, question, answer = _deduction(draw, sentences) if kind == "deduce" else _story(draw, kind, sentences)
        prompt = " ".join([*story, question])
        return prompt, {"prompt": prompt, "completion": answer, "kind": kind}

    return generated(config, make, "qa_stories", chosen, least, most, count=count, valid=valid, seed=seed)


@dataclass
class World:
    """Who is where and has what; ``trails`` are the places that things have been in, one after another."""

    places: dict[str, str] = field(default_factory=dict)
    things: dict[str, str] = field(default_factory=dict)
    trails: dict[str, list[str]] = field(default_factory=dict)

    def event(self, draw: Draw) -> str:
        """What happens next, as a sentence."""
        who = draw.one(PEOPLE[:3])
        own = [thing for thing, holder in self.things.items() if holder == who]
        free = [thing for thing in THINGS[:4] if thing not in self.things]
        if who not in self.places or draw.chance(0.5):
            self.places[who] = draw.one([place for place in PLACES if self.places.get(who) != place])
            self._carried(own, self.places[who])
            return f"{who} went to the {self.places[who]}."
        if own and (not free or draw.chance(0.3)):
            thing = draw.one(own)
            del self.things[thing]
            return f"{who} dropped the {thing}."
        if not free:
            return f"{who} waited."
        thing = draw.one(free)
        self.things[thing] = who
        self.trails[thing] = []  # where it was before it was found is not known
        self._carried([thing], self.places[who])
        return f"{who} took the {thing}."

    def _carried(self, things: list[str], place: str) -> None:
        for thing in things:
            self.trails[thing].append(place)

    def questions(self, kind: str) -> Iterator[tuple[str, str]]:
        """All (question, answer) of a kind that the story answers."""
        if kind == "one":
            yield from ((f"Where is {who}?", place) for who, place in self.places.items())
        elif kind == "two":
            yield from ((f"Where is the {thing}?", trail[-1]) for thing, trail in self.trails.items())
        elif kind == "three":
            for thing, trail in self.trails.items():
                if len(trail) > 1 and trail.count(trail[-1]) == 1:
                    yield f"Where was the {thing} before the {trail[-1]}?", trail[-2]
        elif kind == "yesno":
            for who, place in self.places.items():
                yield f"Is {who} in the {place}?", "yes"
                yield f"Is {who} in the {PLACES[PLACES.index(place) - 1]}?", "no"
        else:
            for who in self.places:
                yield f"How many things does {who} have?", NUMBERS[list(self.things.values()).count(who)]


def _story(draw: Draw, kind: str, sentences: int) -> tuple[list[str], str, str]:
    for _ in range(STORIES):
        world = World()
        story = [world.event(draw) for _ in range(sentences)]
        if found := list(world.questions(kind)):
            return story, *draw.one(found)
    raise AssertionError(f"no story of {sentences} sentences answers a question of kind {kind}")


def _deduction(draw: Draw, sentences: int) -> tuple[list[str], str, str]:
    """Of each kind of animals, whom they fear; of some named ones, what they are."""
    animals = draw.some(ANIMALS, sentences // 2 if sentences < 12 else 6)
    feared = [draw.one([other for other in ANIMALS if other != animal])[1] for animal in animals]
    names = draw.some(PEOPLE, min(sentences - len(animals), len(PEOPLE)))
    which = [draw.between(0, len(animals) - 1) for _ in names]
    rules = [f"{plural.capitalize()} fear {fear}." for (_, plural), fear in zip(animals, feared, strict=True)]
    facts = [f"{name} is a {animals[i][0]}." for name, i in zip(names, which, strict=True)]
    asked = draw.between(0, len(names) - 1)
    story = draw.some(rules + facts, len(rules) + len(facts))
    return story, f"What does {names[asked]} fear?", feared[which[asked]]
