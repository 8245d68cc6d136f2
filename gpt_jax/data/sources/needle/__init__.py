"""One statement in a long text, and a question about it: a needle in a haystack (Kamradt 2023; RULER, Hsieh et al. 2024)."""

from typing import Annotated

from gpt_jax.config import Config
from gpt_jax.data.examples import Examples, Row
from gpt_jax.data.rows.generated import Amount, Draw, generated
from gpt_jax.data.rows.long_texts import check, surrounded
from gpt_jax.limits import Limits, Seed
from gpt_jax.registry import register

KEYS: tuple[str, ...] = (
    "apple",
    "anchor",
    "basket",
    "candle",
    "feather",
    "garden",
    "hammer",
    "island",
    "jacket",
    "ladder",
)
KEYS += ("mirror", "needle", "orange", "pillow", "ribbon", "saddle", "ticket", "violin", "window", "zebra")


@register("data.sources", "needle", examples=("needle(count=200, valid=50, lengths=[120], others=1)",))
def needle(
    config: Config,
    *,
    count: Amount = 20_000,
    valid: Amount = 500,
    lengths: list[int] | None = None,
    depths: list[float] | None = None,
    others: Annotated[int, Limits(0, len(KEYS) - 1)] = 0,
    digits: Annotated[int, Limits(1, 12)] = 3,
    seed: Seed = 0,
) -> Examples:
    """{prompt, answer, length, depth}: sentences of which one gives a key a number, then "The number of the KEY is", and the
    number.

    Args:
      lengths: of the prompts in characters, at most, as often each; [200] where there is no list.
      depths: where the statement stands, from 0, the beginning, to 1, just before the question; any where there is no list.
      others: further statements about other keys, anywhere.
      digits: of a number.

    Raises:
      UserError: a length or a depth that no text can have.
    """
    sizes, places = tuple(lengths or (200,)), tuple(depths or ())
    check("needle", sizes, places or (0.0,))

    def make(draw: Draw, held: bool) -> tuple[str, Row]:
        length, depth = draw.one(sizes), draw.one(places) if places else draw.between(0, 1000) / 1000
        keys = draw.some(KEYS, 1 + others)
        numbers = [str(draw.between(10 ** (digits - 1), 10**digits - 1)) for _ in keys]
        said = [f"The number of the {key} is {number}." for key, number in zip(keys, numbers, strict=True)]
        at = [depth, *(draw.between(0, 1000) / 1000 for _ in range(others))]
        statements = sorted(zip(at, said, strict=True))
        prompt = surrounded(draw, statements, f"The number of the {keys[0]} is", length, "needle")
        return f"{keys[0]} {numbers[0]}", {
            "prompt": prompt,
            "answer": f" {numbers[0]}",
            "length": length,
            "depth": depth,
        }

    return generated(config, make, "needle", sizes, places, others, digits, count=count, valid=valid, seed=seed)
