"""Values that programs are not written for: numbers at the limits of their types, odd texts, damaged bytes and JSON."""

import json
import random
import typing
from collections.abc import Callable
from typing import Any

from gpt_jax import limits

WHOLE = (-1, 0, 1, 2, 3, 2**15, 2**31 - 1, 2**31, 2**32, 2**53 + 1, 2**63 - 1, 2**63, -(2**63), 10**30, 10**400)
REAL = ("nan", "inf", "-inf", "-0.0", "1e400", "-1e400", "1e-320", "1e-45", "3.5e38", "1e308", "-1.0", "0.0", "0.5")
ODD_NUMBERS = ("", " 3", "3 ", "0x10", "1_000", "1e3", "1.5", "٣", "１２", "²", "+4", "--4", "None", "True", "1j")
TEXTS = (
    "",
    " ",
    "\n",
    "…",
    "ﬁ\u200b\u202e",
    "\udcff\udc80",  # how Python gives the bytes ff 80 of a command line
    "\x1b[31m",
    "a" * 100_000,
    "(" * 500,
    "[" * 100_000,
    "-" * 3000 + "1",
    "x(" * 120 + ")" * 120,
    "{[]: 1}",
    "{**{}}",
    "../" * 40,
    "/dev/null",
    "%s %d {} {0.__class__}",
    "' or 1=1 --",
    "𝒳" * 300,
)
DEEP = 20_000


def whole(draw: random.Random) -> str:
    return draw.choice([str(draw.choice(WHOLE)), str(draw.randint(-4, 70)), draw.choice(ODD_NUMBERS)])


def real(draw: random.Random) -> str:
    return draw.choice([draw.choice(REAL), f"{10 ** draw.uniform(-9, 3):.4g}", draw.choice(ODD_NUMBERS)])


def text(draw: random.Random) -> str:
    return draw.choice(TEXTS)


def place(draw: random.Random) -> str:
    """Where something is to be written, in the case's folder or where nothing can be: a path out of it would be followed, as
    a user's is, and that is no fault."""
    return draw.choice([one for one in TEXTS if not one.startswith("../")])


def like(draw: random.Random, default: Any) -> str:
    """The text of a value that might stand where ``default`` does: mostly of its type, else of another."""
    if draw.random() < 0.08:
        return draw.choice([whole, real, text])(draw)
    if isinstance(default, bool):
        return draw.choice(["true", "false", "true", "false", "2", "yes", ""])
    if isinstance(default, int):
        return whole(draw)
    if isinstance(default, float):
        return real(draw)
    if isinstance(default, tuple | list):
        items = [repr(draw.choice([1, -1, 2**63, 0.5, "a", "", None, (), [1]])) for _ in range(draw.randint(0, 3))]
        return f"({', '.join(items)}{',' if items else ''})"
    return text(draw)


def of(draw: random.Random, annotation: Any, default: Any) -> str:
    """The text of a value for a setting: most of them of its annotation, numbers at its limits or in between."""
    kind = limits.names(annotation)
    if draw.random() < 0.3 or not (kind in ("int", "float") or kind.startswith("tuple")):
        return like(draw, default)
    if kind in ("int", "float"):
        return _within(draw, annotation, whole=kind == "int")
    drawn = {"tuple of str": text, "tuple of float": real, "tuple of int": whole}.get(kind, word)
    return f"({''.join(f'{_quoted(kind, drawn(draw))}, ' for _ in range(draw.randint(0, 3)))})"


def _quoted(kind: str, item: str) -> str:
    return repr(item) if kind == "tuple of str" else item or "0"


def _within(draw: random.Random, annotation: Any, whole: bool) -> str:
    parts = typing.get_args(annotation)[1:]
    found = [
        end for part in parts for end in ((part.value,) if isinstance(part, limits.Or) else (part.least, part.most))
    ]
    small = draw.randint(0, 9) if whole else draw.uniform(0, 2)
    return repr(draw.choice([*found, small, small]))


def word(draw: random.Random) -> str:
    """A literal of a word as sampling takes them, as a text, an id or several, or one with a number."""
    one = draw.choice(["'to'", "' be'", "''", "3", "(3, 4)", "256", "-1", "()", repr("ﬁ" * 9)])
    return one if draw.random() < 0.5 else f"({one}, {draw.choice(['2.0', '-1e30', '3e38', '1e400', 'None'])})"


def json_value(draw: random.Random) -> Any:
    """A value that JSON can hold and its reader may not expect."""
    numbers = [*WHOLE, float("nan"), float("inf"), -0.0, 1e308, 0.5]
    return draw.choice([None, True, False, *numbers, "", "x", "a" * 5000, [], {}, [None], {"": 0}, [[[]]], "\ud800"])


def damage_json(draw: random.Random, value: Any) -> Any:
    """The value with one part replaced, removed, renamed or repeated."""
    if not isinstance(value, dict | list) or not value or draw.random() < 0.15:
        return json_value(draw)
    kept: Any = value.copy()
    part = draw.choice(sorted(value) if isinstance(value, dict) else range(len(value)))
    match draw.randrange(6):
        case 0:
            del kept[part]
        case 1 if isinstance(value, dict):
            kept[f"{part}x"] = kept.pop(part)
        case 1:
            kept.insert(part, kept[part])
        case 2:
            kept[part] = json_value(draw)
        case _:
            kept[part] = damage_json(draw, value[part])
    return kept


def json_text(draw: random.Random, value: Any) -> bytes:
    """The value damaged, as a file's bytes; sometimes nested deeper than a parser goes."""
    if draw.random() < 0.04:
        return b'{"a":' * DEEP + b"1" + b"}" * DEEP
    if draw.random() < 0.04:
        return b"[" * DEEP
    for _ in range(draw.randint(1, 3)):
        value = damage_json(draw, value)
    return json.dumps(value).encode("utf-8", "surrogatepass")


def _cut(draw: random.Random, data: bytes) -> bytes:
    return data[: draw.randint(0, len(data))]


def _flip(draw: random.Random, data: bytes) -> bytes:
    found = bytearray(data)
    for _ in range(min(len(found), draw.randint(1, 8))):
        found[draw.randrange(len(found))] = draw.randrange(256)
    return bytes(found)


def _insert(draw: random.Random, data: bytes) -> bytes:
    at = draw.randint(0, len(data))
    return data[:at] + draw.choice([b"\0", b"\xff\xfe", b"\r\n", b"\xef\xbb\xbf", b"{", b",", b"\n\n"]) + data[at:]


def _again(draw: random.Random, data: bytes) -> bytes:
    return data + data[draw.randint(0, len(data)) :]


def _utf16(draw: random.Random, data: bytes) -> bytes:
    return data.decode("latin-1").encode(draw.choice(["utf-16", "utf-16-le", "utf-32", "cp037"]), "replace")


def _gone(draw: random.Random, data: bytes) -> bytes:
    return draw.choice([b"", b"\n", b"null", b"{}", b"[]", b"0", b'"x"', b"NaN", b"\x00" * 64, b"\x93NUMPY"])


DAMAGES: tuple[Callable[[random.Random, bytes], bytes], ...] = (_cut, _cut, _flip, _insert, _again, _utf16, _gone)


def damage(draw: random.Random, data: bytes) -> bytes:
    """The bytes of a file as disks, editors and other programs may leave them."""
    return draw.choice(DAMAGES)(draw, data)
