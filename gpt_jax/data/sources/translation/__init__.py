"""Translations with one right answer: dates, numerals, and a made-up language."""

from collections.abc import Callable

from gpt_jax.config import Config
from gpt_jax.data.examples import Examples, Row
from gpt_jax.data.rows.generated import Amount, Draw, generated
from gpt_jax.data.sources.translation import dates, numerals, toy
from gpt_jax.errors import UserError
from gpt_jax.limits import Seed
from gpt_jax.registry import register

# A pair: (what decides its side, a text, its translation).
PAIRS: dict[str, Callable[[Draw], tuple[str, str, str]]] = {
    "dates": dates.pair,
    "numerals": numerals.pair,
    "toy": toy.pair,
}
DIRECTIONS = ("forth", "back", "both")


@register("data.sources", "translation", examples=("translation(count=200, valid=50)", "translation(pair='toy')"))
def translation(
    config: Config,
    *,
    count: Amount = 20_000,
    valid: Amount = 500,
    pair: str = "dates",
    direction: str = "forth",
    seed: Seed = 0,
) -> Examples:
    """{prompt, completion, direction}: a text and its translation.

    What is held out is a combination whose parts are trained on with others: a day of a month, a numeral, or in the made-up
    language a subject with a verb.

    Args:
      pair: dates ("1984-03-05" to "the fifth of March nineteen eighty-four") · numerals ("120" to "one hundred twenty") ·
        toy (subject-verb-object to subject-object-verb, with agreement and irregular forms).
      direction: forth, back, or both by turns of chance; a text shows which.

    Raises:
      UserError: an unknown pair or direction.
    """
    if pair not in PAIRS:
        raise UserError(f"there is no pair {pair!r}", where="config.data.source", allowed=", ".join(PAIRS))
    if direction not in DIRECTIONS:
        raise UserError(
            f"there is no direction {direction!r}", where="config.data.source", allowed=", ".join(DIRECTIONS)
        )

    def make(draw: Draw, held: bool) -> tuple[str, Row]:
        content, text, translated = PAIRS[pair](draw)
        back = direction == "back" or (direction == "both" and draw.chance(0.5))
        prompt, completion = (translated, text) if back else (text, translated)
        return content, {"prompt": prompt, "completion": completion, "direction": "back" if back else "forth"}

    return generated(config, make, "translation", pair, direction, count=count, valid=valid, seed=seed)
