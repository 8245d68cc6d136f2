"""Sums, differences and products, or chains of them, with the answer and, where asked for, the steps to it."""

import math
from typing import Annotated

from gpt_jax.config import Config
from gpt_jax.data.examples import Examples, Row
from gpt_jax.data.rows.generated import Amount, Draw, generated
from gpt_jax.errors import UserError
from gpt_jax.limits import Limits, Seed
from gpt_jax.registry import register

OPERATIONS = "+-*"


@register("data.sources", "arithmetic", examples=("arithmetic(count=200, valid=50)", "arithmetic(terms=3, steps=True)"))
def arithmetic(
    config: Config,
    *,
    count: Amount = 20_000,
    valid: Amount = 500,
    operations: str = OPERATIONS,
    digits: Annotated[int, Limits(1, 12)] = 2,
    terms: Annotated[int, Limits(2, 16)] = 2,
    steps: bool = False,
    reverse: bool = False,
    seed: Seed = 0,
) -> Examples:
    """{prompt, answer}: "12+7=" and "19"; with ``steps`` a completion that works it out, "2+3*4=" and "2+12=14".

    Args:
      operations: those that occur, each as often.
      digits: of a number, at most; numbers of fewer digits are as frequent as those of more.
      terms: numbers of a chain. Products come before sums and differences, and of those the left before the right.
      reverse: answers are written from the last digit to the first (Lee et al. 2023, section 4), without ``steps``.

    Raises:
      UserError: other operations, or steps in reverse.
    """
    check_operations("arithmetic", operations)
    if steps and reverse:
        raise UserError(
            "arithmetic(steps=True, reverse=True)",
            where="config.data.source",
            allowed="one of both: a chain's steps are written forwards",
        )
    way = -1 if reverse else 1

    def make(draw: Draw, held: bool) -> tuple[str, Row]:
        numbers = [_number(draw, digits) for _ in range(terms)]
        between = [draw.one(operations) for _ in range(terms - 1)]
        chains = _reduced(numbers, between)
        prompt, answer = f"{chains[0]}=", chains[-1][::way]
        row: Row = {"prompt": prompt, "answer": answer}
        return prompt, {**row, "completion": "=".join(chains[1:])} if steps else row

    settings = (operations, digits, terms, steps, *(["reverse"] if reverse else []))
    return generated(config, make, "arithmetic", *settings, count=count, valid=valid, seed=seed)


def check_operations(source: str, operations: str) -> None:
    """
    Raises:
      UserError: they are none, or others than ``OPERATIONS``.
    """
    if not operations or set(operations) - set(OPERATIONS):
        raise UserError(
            f"{source}(operations={operations!r})", where="config.data.source", allowed=f"some of {OPERATIONS!r}"
        )


def _number(draw: Draw, digits: int) -> int:
    length = draw.between(1, digits)
    return draw.between(10 ** (length - 1) if length > 1 else 0, 10**length - 1)


def _reduced(numbers: list[int], between: list[str]) -> list[str]:
    """The chain, and what is left of it after each operation; the last is the answer."""
    found = [_written(numbers, between)]
    while between:
        i = between.index("*") if "*" in between else 0
        a, b = numbers[i : i + 2]
        value = math.prod((a, b)) if between[i] == "*" else a + b if between[i] == "+" else a - b
        numbers = [*numbers[:i], value, *numbers[i + 2 :]]
        between = between[:i] + between[i + 1 :]
        found.append(_written(numbers, between))
    return found


def _written(numbers: list[int], between: list[str]) -> str:
    return "".join(f"{a}{b}" for a, b in zip(numbers, [*between, ""], strict=True))
