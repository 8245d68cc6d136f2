"""Whole numbers and their English names."""

from gpt_jax.data.rows.generated import Draw

SMALL = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
).split()
TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
GROUPS = ((10**6, "million"), (10**3, "thousand"), (100, "hundred"))
DIGITS = 6  # of a number, at most


def pair(draw: Draw) -> tuple[str, str, str]:
    """Numbers of few digits are as frequent as those of many."""
    length = draw.between(1, DIGITS)
    number = draw.between(10 ** (length - 1) if length > 1 else 0, 10**length - 1)
    return str(number), str(number), name(number)


def name(number: int) -> str:
    """Of a number below 1000 millions: "two thousand forty-one"."""
    if number < 20:
        return SMALL[number]
    if number < 100:
        tens, ones = divmod(number, 10)
        return TENS[tens - 2] + (f"-{SMALL[ones]}" if ones else "")
    size, group = next(row for row in GROUPS if number >= row[0])
    times, rest = divmod(number, size)
    return f"{name(times)} {group}" + (f" {name(rest)}" if rest else "")
