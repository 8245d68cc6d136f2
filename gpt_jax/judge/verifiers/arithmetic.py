"""Whether the last number of an answer is the right one."""

import re
from decimal import Decimal

from gpt_jax.data.examples import Row
from gpt_jax.judge.verifiers import Verifier, each
from gpt_jax.judge.verifiers.expressions import read

# A minus sign after a digit is an operation: the last number of "7-12" is 12.
NUMBER = re.compile(r"(?<![0-9.])-?(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]+)?(?![0-9])")


def arithmetic(field: str = "answer") -> Verifier:
    """Whether the last number of an answer is that of this field of its row, or without such a field what the prompt comes
    to ("12+7=" to 19); None where a row has neither.

    Numbers are compared by their value: 19 is 19.0, and 1,900 is 1900.
    """

    def judge(row: Row, text: str) -> float | None:
        wanted = _wanted(row, field)
        return None if wanted is None else float(last_number(text) == wanted)

    return each(judge)


def last_number(text: str) -> Decimal | None:
    """The last number in a text; None where there is none."""
    found = NUMBER.findall(text)
    return Decimal(found[-1].replace(",", "")) if found else None


def _wanted(row: Row, field: str) -> Decimal | int | None:
    if field in row:
        return last_number(str(row[field]))
    prompt = row["prompt"]
    asked = read((prompt if isinstance(prompt, str) else prompt[-1]["content"]).strip(" =?\n"))
    return None if asked is None else asked.value
