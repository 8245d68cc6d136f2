"""Variables that get each other's values in a long text, and a question about the last (RULER, Hsieh et al. 2024)."""

import string
from typing import Annotated

from gpt_jax.config import Config
from gpt_jax.data.examples import Examples, Row
from gpt_jax.data.rows.generated import Amount, Draw, generated
from gpt_jax.data.rows.long_texts import check, surrounded
from gpt_jax.limits import Limits, Seed
from gpt_jax.registry import register

NAMES = tuple(string.ascii_uppercase)


@register("data.sources", "variables", examples=("variables(count=200, valid=50, lengths=[120], hops=1)",))
def variables(
    config: Config,
    *,
    count: Amount = 20_000,
    valid: Amount = 500,
    lengths: list[int] | None = None,
    depths: list[float] | None = None,
    hops: Annotated[int, Limits(0, 12)] = 2,
    others: Annotated[int, Limits(0, 12)] = 1,
    digits: Annotated[int, Limits(1, 12)] = 3,
    seed: Seed = 0,
) -> Examples:
    """{prompt, answer, length, depth}: "A = 412." and ``hops`` times the like of "B = A." among sentences, then "C =", and
    the number.

    Args:
      lengths: of the prompts in characters, at most, as often each; [200] where there is no list.
      depths: where the first statement stands, from 0 to 1; those that follow from it stand evenly from there to the end.
        Any where there is no list.
      hops: variables that get another one's value before the one that is asked for has it.
      others: further variables with numbers of their own, anywhere.
      digits: of a number.

    Raises:
      UserError: a length or a depth that no text can have.
    """
    sizes, places = tuple(lengths or (200,)), tuple(depths or ())
    check("variables", sizes, places or (0.0,))

    def make(draw: Draw, held: bool) -> tuple[str, Row]:
        length, depth = draw.one(sizes), draw.one(places) if places else draw.between(0, 1000) / 1000
        names = draw.some(NAMES, 1 + hops + others)
        chain, rest = names[: 1 + hops], names[1 + hops :]
        numbers = [str(draw.between(10 ** (digits - 1), 10**digits - 1)) for _ in range(1 + others)]
        values = [numbers[0], *chain[:-1]]
        said = [
            (depth + (1 - depth) * i / (1 + hops), f"{n} = {v}.")
            for i, (n, v) in enumerate(zip(chain, values, strict=True))
        ]
        said += [(draw.between(0, 1000) / 1000, f"{n} = {v}.") for n, v in zip(rest, numbers[1:], strict=True)]
        statements = sorted(said, key=lambda statement: statement[0])  # those of a chain stay in order
        prompt = surrounded(draw, statements, f"{chain[-1]} =", length, "variables")
        content = f"{' '.join(chain)} {numbers[0]}"
        return content, {"prompt": prompt, "answer": f" {numbers[0]}", "length": length, "depth": depth}

    return generated(
        config, make, "variables", sizes, places, hops, others, digits, count=count, valid=valid, seed=seed
    )
