"""How large the rooms are: ``python -m docs.rooms`` counts their lines and writes rooms.md."""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "rooms.md"
BESIDE = {  # the package
    "benchmarks": "Measurements beside peers.",
    "experiments": "Claims of papers, measured again.",
    "docs": "What makes those of the documents that are made.",
    "tests": "Tests, in the folders of what they test, and their references.",
}
HEAD = """# Rooms

How much there is to read, by folder: Python files, their lines, and how many of those are code, without blank lines,
comments and docstrings. A folder's row does not count the folders below it that have rows of their own.
`python -m docs.rooms` counts again.

| room | what it is | files | lines | code |
|---|---|---:|---:|---:|
"""
Count = tuple[int, int, int]  # files, lines, code


def rooms() -> dict[str, list[Path]]:
    """The Python files of each room, by its path: each package below gpt_jax, and the folders beside it."""
    inside = [file.parent for file in sorted((ROOT / "gpt_jax").rglob("__init__.py"))]
    files = {folder: sorted(folder.glob("*.py")) for folder in sorted(inside)}
    files |= {ROOT / name: sorted((ROOT / name).rglob("*.py")) for name in BESIDE}
    return {folder.relative_to(ROOT).as_posix(): found for folder, found in files.items()}


def count(files: list[Path]) -> Count:
    texts = [file.read_text("utf-8") for file in files]
    return len(files), sum(len(text.splitlines()) for text in texts), sum(map(code_lines, texts))


def code_lines(text: str) -> int:
    """Lines that are not blank, a comment or part of a docstring."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    described: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, documented) and ast.get_docstring(node) is not None:
            described |= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    lines = enumerate(text.splitlines(), 1)
    return sum(bool(line.strip()) and not line.strip().startswith("#") and i not in described for i, line in lines)


def page() -> str:
    rows, total = [], (0, 0, 0)
    for room, files in rooms().items():
        found = count(files)
        total = tuple(a + b for a, b in zip(total, found, strict=True))
        rows.append(f"| `{room}/` | {_purpose(room)} | {_cells(found)} |")
    return HEAD + "\n".join([*rows, f"| | **total** | {_cells(total)} |"]) + "\n"


def written(text: str) -> dict[str, Count]:
    """What the page says of each room."""
    cells = [[cell.strip() for cell in line.split("|")] for line in text.splitlines() if line.startswith("| `")]
    return {room.strip("`").rstrip("/"): tuple(map(int, numbers)) for _, room, _, *numbers, _ in cells}


def _cells(found: Count) -> str:
    return " | ".join(map(str, found))


def _purpose(room: str) -> str:
    """The first line of the docstring of a package."""
    if room in BESIDE:
        return BESIDE[room]
    described = ast.get_docstring(ast.parse((ROOT / room / "__init__.py").read_text("utf-8"))) or ""
    return described.partition("\n")[0].replace("``", "`")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
