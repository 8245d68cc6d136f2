"""Instructions about a few words, with exact answers: what can be held out is a phrasing, a composition or a family."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, TypeVar

from gpt_jax.config import Config
from gpt_jax.data.examples import Examples, Row
from gpt_jax.data.rows import holdout
from gpt_jax.data.rows.generated import Amount, Draw, generated
from gpt_jax.data.sources.instructions.families import FAMILIES, FRAMES, WORDS, Words
from gpt_jax.errors import UserError
from gpt_jax.limits import Limits, Natural, Seed
from gpt_jax.registry import register

WHERE = "config.data.source"
HELD = ("phrasings", "compositions", "families", "none")
FIRST = ("reverse", "sort", "repeat", "replace", "remove", "swap")  # whose answer is words to go on with
PHRASINGS = 3 * len(FRAMES)  # of each family
SHARE = 4  # one in so many kinds is held out
T = TypeVar("T")
Step = tuple[str, int]  # family, phrasing


@register("data.sources", "instructions", examples=("instructions(count=200, valid=50)",))
def instructions(
    config: Config,
    *,
    count: Amount = 20_000,
    valid: Amount = 500,
    families: Annotated[int, Limits(1, len(FAMILIES))] = len(FAMILIES),
    phrasings: Annotated[int, Limits(2, PHRASINGS)] = PHRASINGS,
    held: str = "phrasings",
    trained: Natural = 0,
    steps: Annotated[int, Limits(1, 2)] = 1,
    least: Annotated[int, Limits(2, 8)] = 2,
    most: Annotated[int, Limits(2, 8)] = 3,
    seed: Seed = 0,
) -> Examples:
    """{prompt, completion, family, phrasing}: what is asked is one of ``FAMILIES``.

    The words of a prompt are held out too: validation asks nothing that training has asked, in whatever phrasing.

    Args:
      families, phrasings: how many of them; the first ones.
      held: what validation alone has: a quarter of the phrasings, of the compositions or of the families, or none of them.
      trained: families that are trained, the first ones, where families are held out; the same ones are, for any number.
      steps: 2 = a second instruction about the answer to the first.
      least, most: words of a prompt; three or more with two steps.

    Raises:
      UserError: an unknown ``held``, or one that there are too few kinds for.
    """
    if least > most:
        raise UserError(f"instructions(least={least}, most={most}): no number is both", where=WHERE)
    kinds = Kinds(tuple(FAMILIES)[:families], phrasings, held, trained, steps)
    sizes = (least, most) if steps == 1 else (max(least, 3), max(most, 3))

    def make(draw: Draw, out: bool) -> tuple[str, Row]:
        words = draw.some(WORDS, draw.between(*sizes))
        return _row(draw, kinds.draw(draw, out), words)

    arguments = (families, phrasings, held, trained, steps, least, most)
    return generated(config, make, "instructions", *arguments, count=count, valid=valid, seed=seed)


@dataclass(frozen=True)
class Kinds:
    """What is asked, and what of it only validation has.

    Raises:
      UserError: see ``instructions``.
    """

    families: tuple[str, ...]
    phrasings: int
    held: str
    trained: int
    steps: int

    def __post_init__(self) -> None:
        if self.held not in HELD:
            raise UserError(
                f"held = {self.held!r} is nothing that can be held out", where=WHERE, allowed=", ".join(HELD)
            )
        if self.held == "compositions" and self.steps == 1:
            raise UserError("instructions of one step have no compositions", where=WHERE, fix="add steps=2")
        if self.trained and self.held != "families":
            raise UserError(f"trained = {self.trained} without families held out", where=WHERE, fix="held='families'")
        if not 0 <= self.trained <= len(_side(self.families, False)):
            allowed = f"1 to {len(_side(self.families, False))}, the families that are not held out; 0 = all of them"
            raise UserError(f"trained = {self.trained}", where=WHERE, allowed=allowed)
        if self.held in ("families", "compositions") and len(self.families) == 1:
            raise UserError(f"of one family no {self.held} can be held out", where=WHERE, allowed="families=2 or more")

    def draw(self, draw: Draw, out: bool) -> list[Step]:
        """The steps of a row of the validation side (``out``) or of the training side."""
        names = _side(self.families, out) if self.held == "families" else self.families
        names = names if out else names[: self.trained or None]
        if self.steps == 1:
            chosen = [draw.one(names)]
        else:
            pairs = [(a, b) for a in (self.families if out else names) if a in FIRST for b in names]
            ordered = sorted(pairs, key=lambda pair: holdout.draw(" ".join(pair).encode()))
            chosen = list(draw.one(_side(ordered, out) if self.held == "compositions" else pairs))
        return [(name, draw.one(self._numbers(name, out))) for name in chosen]

    def _numbers(self, family: str, out: bool) -> Sequence[int]:
        """Of phrasings. Each wording and each frame of those that are held out is known in training from others."""
        every = range(self.phrasings)
        if self.held != "phrasings":
            return every
        first = self.families.index(family)
        held = {(first + SHARE * i) % self.phrasings for i in range(max(1, self.phrasings // SHARE))}
        return [number for number in every if (number in held) == out]


def _side(kinds: Sequence[T], out: bool) -> Sequence[T]:
    """The last quarter of kinds, at least one, or the others."""
    cut = len(kinds) - max(1, len(kinds) // SHARE)
    return kinds[cut:] if out else kinds[:cut]


def _row(draw: Draw, steps: list[Step], words: Words) -> tuple[str, Row]:
    requests: list[str] = []
    content, shown = [" ".join(words)], " ".join(words)
    for family, phrasing in steps:
        kind = FAMILIES[family]
        arguments = kind.arguments(draw, words)
        requests.append(kind.request(phrasing, shown, arguments, second=bool(requests)))
        content += [family, *arguments]
        answer = kind.solve(words, arguments)
        words = answer if isinstance(answer, list) else [answer]
    return "/".join(content), {
        "prompt": "\n".join(requests),
        "completion": " ".join(words),
        "family": "+".join(family for family, _ in steps),
        "phrasing": "+".join(str(phrasing) for _, phrasing in steps),
    }
