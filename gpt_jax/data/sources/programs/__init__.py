"""Small programming tasks, with tests that decide what is right."""

from typing import Annotated

from gpt_jax.config import Config
from gpt_jax.data.examples import Examples, Row
from gpt_jax.data.rows.generated import Amount, Draw, generated
from gpt_jax.limits import Limits, Seed
from gpt_jax.registry import register

WORDS = ("plus", "minus", "times")
INPUTS = range(-9, 10)
TESTS = 3  # two values decide which linear function it is


@register("data.sources", "programs", examples=("programs(count=200, valid=50)", "programs(steps=1, largest=9)"))
def programs(
    config: Config,
    *,
    count: Amount = 20_000,
    valid: Amount = 500,
    steps: Annotated[int, Limits(1, 8)] = 2,
    largest: Annotated[int, Limits(2, 1000)] = 20,
    seed: Seed = 0,
) -> Examples:
    """{prompt, tests, completion}: "Write f(x): x plus 3, then times 5.", ["assert f(2) == 25", …], and a programme that
    passes them, "def f(x):\\n    return (x + 3) * 5".

    Programmes of one function, whatever its steps, are on one side.

    Args:
      steps: sums, differences and products, one after another.
      largest: of the numbers in them; the least is 2.
    """

    def make(draw: Draw, held: bool) -> tuple[str, Row]:
        said, written, is_sum, factor, constant = [], "x", False, 1, 0
        for _ in range(steps):
            word, number = draw.one(WORDS), draw.between(2, largest)
            said.append(f"{word} {number}")
            if word == "times":
                written = f"({written}) * {number}" if is_sum else f"{written} * {number}"
                is_sum, factor, constant = False, factor * number, constant * number
            else:
                written += f" + {number}" if word == "plus" else f" - {number}"
                is_sum, constant = True, constant + (number if word == "plus" else -number)
        tests = [f"assert f({x}) == {factor * x + constant}" for x in draw.some(INPUTS, TESTS)]
        row = {"prompt": f"Write f(x): x {', then '.join(said)}.", "tests": tests}
        return f"{factor} {constant}", {**row, "completion": f"def f(x):\n    return {written}"}

    return generated(config, make, "programs", steps, largest, count=count, valid=valid, seed=seed)
