"""Dates as ISO 8601 writes them, and in words."""

import calendar

from gpt_jax.data.rows.generated import Draw
from gpt_jax.data.sources.translation.numerals import name

YEARS = (1900, 2099)
ORDINALS = {"one": "first", "two": "second", "three": "third", "five": "fifth", "eight": "eighth", "nine": "ninth"}
ORDINALS |= {"twelve": "twelfth", "twenty": "twentieth", "thirty": "thirtieth"}
MONTHS = (
    "January February March April May June July August September October November December"  # whatever the locale is
).split()


def pair(draw: Draw) -> tuple[str, str, str]:
    year, month = draw.between(*YEARS), draw.between(1, 12)
    day = draw.between(1, calendar.monthrange(year, month)[1])
    return (
        f"{month}-{day}",
        f"{year:04}-{month:02}-{day:02}",
        f"the {ordinal(day)} of {MONTHS[month - 1]} {spoken(year)}",
    )


def ordinal(day: int) -> str:
    first, dash, last = name(day).rpartition("-")
    return f"{first}{dash}{ORDINALS[last] if last in ORDINALS else f'{last}th'}"


def spoken(year: int) -> str:
    """Nineteen hundred, nineteen oh five, two thousand five, twenty twenty-four."""
    century, rest = divmod(year, 100)
    if century % 10 == 0 and rest < 10:
        return name(year)
    return f"{name(century)} {'hundred' if not rest else f'oh {name(rest)}' if rest < 10 else name(rest)}"
