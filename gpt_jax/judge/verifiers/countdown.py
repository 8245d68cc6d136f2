"""Whether an answer is an expression over given numbers that comes to a given target."""

from collections import Counter

from gpt_jax.data.examples import Row
from gpt_jax.errors import UserError
from gpt_jax.judge.verifiers import Verifier, each
from gpt_jax.judge.verifiers.expressions import read


def countdown(every: bool = False, where: str = "") -> Verifier:
    """Whether the last line of an answer is an expression of + - * and parentheses that comes to the row's ``target``, with
    no numbers but those of the row's ``numbers``, each at most as often as it stands there. "= target" may follow it. None
    where a row lacks a field; an answer that cannot be read is wrong.

    Args:
      every: each of the numbers has to be used.
      where: of errors, the key that asked for it.

    Raises:
      UserError: a row's fields are no whole numbers.
    """

    def judge(row: Row, text: str) -> float | None:
        if "numbers" not in row or "target" not in row:
            return None
        numbers, target = _fields(row, where)
        lines = text.strip().splitlines()
        said, equals, value = (lines[-1] if lines else "").partition("=")
        answer = read(said)
        if answer is None or answer.value != target or equals and value.strip() != str(target):
            return 0.0
        used = Counter(answer.numbers)
        return float(used == numbers if every else used <= numbers)

    return each(judge)


def _fields(row: Row, where: str) -> tuple[Counter[int], int]:
    numbers, target = row["numbers"], row["target"]
    if not isinstance(numbers, list | tuple) or not all(map(_whole, [*numbers, target])):
        raise UserError(
            f"countdown of a row with numbers = {numbers!r:.80} and target = {target!r:.80}",
            where=where,
            allowed="a list of whole numbers, and a whole number",
        )
    return Counter(numbers), target


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
