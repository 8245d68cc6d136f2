"""The numbers game of Countdown: an expression over given numbers that comes to a given target."""

from typing import Annotated

from gpt_jax.config import Config
from gpt_jax.data.examples import Examples, Row
from gpt_jax.data.rows.generated import Amount, Draw, generated
from gpt_jax.data.sources.arithmetic import OPERATIONS, check_operations
from gpt_jax.data.sources.countdown.puzzles import puzzle
from gpt_jax.limits import Limits, Seed
from gpt_jax.registry import register


@register(
    "data.sources", "countdown", examples=("countdown(count=200, valid=50)", "countdown(numbers=4, operations='+-')")
)
def countdown(
    config: Config,
    *,
    count: Amount = 20_000,
    valid: Amount = 500,
    numbers: Annotated[int, Limits(2, 8)] = 3,
    largest: Annotated[int, Limits(2, 1000)] = 20,
    operations: str = OPERATIONS,
    seed: Seed = 0,
) -> Examples:
    """{prompt, numbers, target, completion}: "29 from 3 7 8:", [3, 7, 8], 29, and one of the expressions that come to it,
    "3*7+8", which has each of the numbers once.

    Equal numbers with an equal target are on one side, whatever their order. A target is none of its numbers, and at most
    ten times ``largest``.

    Args:
      numbers: of a puzzle.
      largest: of them; the least is 1.
      operations: those that the completions have.

    Raises:
      UserError: other operations, or too few puzzles have a solution by them.
    """
    check_operations("countdown", operations)

    def make(draw: Draw, held: bool) -> tuple[str, Row]:
        found = puzzle(draw, numbers, largest, operations)
        given = " ".join(map(str, found.numbers))
        row: Row = {
            "prompt": f"{found.target} from {given}:",
            "numbers": found.numbers,
            "target": found.target,
            "completion": found.solution,
        }
        return f"{sorted(found.numbers)} {found.target}", row

    return generated(config, make, "countdown", numbers, largest, operations, count=count, valid=valid, seed=seed)
