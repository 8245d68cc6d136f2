"""1 for an expression over given numbers that comes to a given target, else 0."""

from collections import Counter
from collections.abc import Sequence

from gpt_jax.data.examples import Row
from gpt_jax.errors import UserError
from gpt_jax.registry import register
from gpt_jax.train.rewards import WHERE, Completion, Reward
from gpt_jax.train.rewards.expressions import read


@register("train.rewards", "countdown", examples=("countdown", "countdown(every=True)"))
def countdown(*, every: bool = False) -> Reward:
    """Whether the last line of the completion is an expression of + - * and parentheses that comes to the row's ``target``
    and has no numbers but those of the row's ``numbers``, each at most as often as it stands there. "= target" may follow
    it. None where a row lacks a field; an answer that cannot be read is wrong.

    Args:
      every: each of the numbers has to be used.

    Raises:
      UserError: a row's fields are no whole numbers.
    """

    def reward(completions: Sequence[Completion]) -> list[float | None]:
        return [_judged(completion, every) for completion in completions]

    return reward


def _judged(completion: Completion, every: bool) -> float | None:
    row = completion.row
    if "numbers" not in row or "target" not in row:
        return None
    numbers, target = _fields(row)
    lines = completion.text.strip().splitlines()
    said, equals, value = (lines[-1] if lines else "").partition("=")
    answer = read(said)
    if answer is None or answer.value != target or equals and value.strip() != str(target):
        return 0.0
    used = Counter(answer.numbers)
    return float(used == numbers if every else used <= numbers)


def _fields(row: Row) -> tuple[Counter[int], int]:
    numbers, target = row["numbers"], row["target"]
    if not isinstance(numbers, list | tuple) or not all(map(_whole, [*numbers, target])):
        raise UserError(
            f"countdown of a row with numbers = {numbers!r:.80} and target = {target!r:.80}",
            where=WHERE,
            allowed="a list of whole numbers, and a whole number",
        )
    return Counter(numbers), target


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
