"""Which package of the standard library a function is from: text to classify that is on every machine."""

import re
from collections import defaultdict
from typing import Annotated, Any

from gpt_jax.config import Config
from gpt_jax.data import cache
from gpt_jax.data.examples import Examples
from gpt_jax.data.rows import holdout
from gpt_jax.data.rows.functions import Function, functions, of_files
from gpt_jax.errors import UserError
from gpt_jax.limits import Limits, Or, Rows
from gpt_jax.registry import register

PACKAGES = ("asyncio", "email", "json", "unittest", "http", "xml", "tkinter", "logging")
MASK = "package"  # in place of a package's name, wherever it stands
SHORTEST = 60  # characters of a function: shorter ones look alike in all packages


@register("data.sources", "which_package", examples=("which_package(packages=['json', 'logging', 'http'])",))
def which_package(
    config: Config,
    *,
    count: Annotated[Rows, Or(0, "all there are")] = 0,
    packages: list[str] | None = None,
    longest: Annotated[int, Limits(SHORTEST, 2**20)] = 400,
) -> Examples:
    """{text, class, file}: a function without docstring and without the names of the packages, and the number of its package
    in the list. Files are held out whole.

    Args:
      count: examples for training; taken from the packages in turns, so that few of them are balanced.
      packages: their names, in the order of their numbers; asyncio, email, json, unittest, http, xml, tkinter and logging
        where there is no list.
      longest: characters of a function; longer ones end there.

    Raises:
      UserError: a package that this interpreter lacks, or one of a single file.
    """
    names = list(packages or PACKAGES)
    found, digest = functions(config, names)
    held = _held(found, names, config.data.valid_fraction)
    masked = re.compile("|".join(map(re.escape, names)), re.IGNORECASE)
    sides: tuple[list[dict[str, Any]], list[dict[str, Any]]] = ([], [])
    seen: set[str] = set()
    for function in found:
        text = masked.sub(MASK, function.text)[:longest]
        if len(text) >= SHORTEST and text not in seen:
            seen.add(text)
            sides[held[function.file]].append({"text": text, "class": _class(function, names), "file": function.file})
    train, valid = sides
    digest = cache.digest("which_package", digest, repr(names), count, longest, config.data.valid_fraction)
    return of_files(_in_turns(train)[: count or None], _in_turns(valid), digest)


def _class(function: Function, names: list[str]) -> int:
    return names.index(function.file.partition("/")[0].removesuffix(".py"))


def _held(found: list[Function], names: list[str], fraction: float) -> dict[str, bool]:
    """Of each file, whether it is held out; each package has some of either side."""
    held: dict[str, bool] = {}
    for number, name in enumerate(names):
        files = list(dict.fromkeys(function.file for function in found if _class(function, names) == number))
        if len(files) < 2:
            raise UserError(
                f"{name} has {len(files)} file(s) with functions, and files are held out whole",
                where="config.data.source",
                allowed="packages of 2 files or more",
            )
        draws = [holdout.draw(file.encode()) for file in files]
        held |= dict(zip(files, holdout.held(draws, fraction), strict=True))
    return held


def _in_turns(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One of each class after another, as long as there are some; within a class in the order of their contents' hashes."""
    classes = defaultdict(list)
    for row in sorted(rows, key=lambda row: holdout.draw(row["text"].encode())):
        classes[row["class"]].append(row)
    ranked = [(nth, number, row) for number, group in classes.items() for nth, row in enumerate(group)]
    return [row for _, _, row in sorted(ranked, key=lambda item: item[:2])]
