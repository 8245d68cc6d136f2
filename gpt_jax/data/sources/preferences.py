"""Pairs of descriptions of which the kind one is preferred, a rule that a programme can check."""

import re
from typing import Any

from gpt_jax.config import Config
from gpt_jax.data.examples import Examples, Row
from gpt_jax.data.rows.generated import Amount, Draw, generated
from gpt_jax.errors import UserError
from gpt_jax.limits import Seed
from gpt_jax.registry import register

KIND = ("good", "fine", "calm", "warm", "bright", "nice", "clean", "happy")
UNKIND = ("bad", "poor", "cold", "dark", "dull", "ugly", "dirty", "sad")
SUBJECTS = ("house", "garden", "road", "ship", "dog", "horse", "room", "town", "river", "car", "song", "book")
OWNERS = ("king", "farmer", "teacher", "child", "sailor", "baker", "doctor", "queen")
COLOURS = ("red", "blue", "green", "white", "black", "brown", "grey", "old", "new", "small", "large", "long")
# How an answer is written; unlike pairs take two different ways.
WAYS = (
    "The {subject} of the {owner} is {colour} and {word}.",
    "It is {word}, and it is {colour}.",
    "I saw a {colour} {subject}. It was {word}.",
    "People say that it is {word} and {colour}.",
)
STYLES = ("near", "unlike")
PROMPT = "Describe the {subject} of the {owner}."


@register(
    "data.sources",
    "preferences",
    examples=("preferences(count=200, valid=50)", "preferences(labelled=True)", "preferences(either=True)"),
)
def preferences(
    config: Config,
    *,
    count: Amount = 4_000,
    valid: Amount = 500,
    style: str = "near",
    labelled: bool = False,
    either: bool = False,
    seed: Seed = 0,
) -> Examples:
    """{prompt, chosen, rejected}: the chosen answer has a kind word, the rejected one an unkind word.

    Args:
      style: near = the answers differ in that word alone · unlike = in their sentence and their other words too. Training on
        pairs that are alike lowers what is preferred as well (Razin et al. 2024).
      labelled: {prompt, completion, label} instead, with one of the two answers.
      either: {prompt, completion} instead, with one of them: what a policy may begin with.

    Raises:
      UserError: an unknown style, or labelled and either.
    """
    if labelled and either:
        raise UserError("preferences are labelled, or have either answer, not both", where="config.data.source")
    if style not in STYLES:
        raise UserError(f"there is no style {style!r}", where="config.data.source", allowed=", ".join(STYLES))

    def make(draw: Draw, held: bool) -> tuple[str, Row]:
        asked = {"subject": draw.one(SUBJECTS), "owner": draw.one(OWNERS)}
        chosen, rejected = _answers(draw, asked, style)
        prompt = PROMPT.format(**asked)
        row: dict[str, Any] = {"prompt": prompt, "chosen": chosen, "rejected": rejected}
        if labelled or either:
            kind = draw.chance(0.5)
            row = {"prompt": prompt, "completion": chosen if kind else rejected}
            row |= {"label": kind} if labelled else {}
        return prompt, row

    rows = ("preferences", style, labelled, *(["either"] if either else []))
    return generated(config, make, *rows, count=count, valid=valid, seed=seed)


def asked(prompt: str) -> tuple[str, str] | None:
    """The subject and the owner that a prompt asks for; None where it is none of these."""
    pattern = (
        re.escape(PROMPT)
        .replace(r"\{subject\}", f"({'|'.join(SUBJECTS)})")
        .replace(r"\{owner\}", f"({'|'.join(OWNERS)})")
    )
    found = re.fullmatch(pattern, prompt)
    return None if found is None else (found[1], found[2])


def _answers(draw: Draw, asked: dict[str, str], style: str) -> tuple[str, str]:
    way, other = draw.some(WAYS, 2)
    colour, different = draw.some(COLOURS, 2)
    if style == "near":
        other, different = way, colour
    kind, unkind = draw.one(KIND), draw.one(UNKIND)
    return way.format(**asked, colour=colour, word=kind), other.format(**asked, colour=different, word=unkind)
