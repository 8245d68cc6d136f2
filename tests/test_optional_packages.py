"""Tests are collected where packages are absent that not every Python has: what needs them is skipped alone."""

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
ABSENT = {"torch", "transformers"}  # see requirements/test.txt


@functools.cache
def imported(path: Path) -> frozenset[str]:
    """The modules that a file imports as it is imported."""
    return frozenset(_imported(ast.parse(path.read_text()).body))


def _imported(body: list[ast.stmt]) -> Iterator[str]:
    for node in body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def reached(path: Path) -> set[str]:
    """With those of the files of tests that it imports."""
    found, waiting = set(), [path]
    while waiting:
        for name in imported(waiting.pop()) - found:
            found.add(name)
            file = TESTS.parent.joinpath(*name.split(".")).with_suffix(".py")
            if name.startswith("tests.") and file.exists():
                waiting.append(file)
    return found


@pytest.mark.parametrize("path", sorted(TESTS.rglob("test_*.py")), ids=lambda path: str(path.relative_to(TESTS)))
def test_a_file_is_collected_without_them(path):
    assert not ABSENT & {name.partition(".")[0] for name in reached(path)}
