"""The functions of the interpreter's own standard library, as text, each with the first line of its docstring."""

import ast
import json
import textwrap
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gpt_jax import bars
from gpt_jax.config import Config
from gpt_jax.data import cache
from gpt_jax.data.corpus import BAR
from gpt_jax.data.documents import Documents
from gpt_jax.data.examples import Examples
from gpt_jax.data.sources.python_stdlib import python_stdlib
from gpt_jax.errors import UserError
from gpt_jax.storage import local_path

FORMAT = 1  # raise it when what is found in the same files changes
LISTED = "functions.jsonl"


@dataclass(frozen=True)
class Function:
    """A function or method: its file, its text without the docstring, and that one's first line, which may be empty."""

    file: str
    text: str
    summary: str


def functions(config: Config, packages: Sequence[str]) -> tuple[list[Function], str]:
    """The functions of packages and modules of the standard library (of all, where none is named), and a digest.

    They are found once for each interpreter and kept in the data cache.

    Raises:
      UserError: the interpreter lacks one of them.
    """
    library = python_stdlib(config)
    which = [i for i, name in enumerate(library.names) if not packages or _package(name) in packages]
    there = {_package(library.names[i]) for i in which}
    if missing := [name for name in packages if name not in there]:
        raise UserError(
            f"this Python comes without {', '.join(missing)}",
            where="config.data.source",
            fix=f"name those that it has: packages={[name for name in packages if name in there]!r}",
        )
    chosen = Documents(tuple(library.names[i] for i in which), lambda n: library.read(which[n]), library.digest)
    key = cache.digest("functions", FORMAT, library.digest, *chosen.names)
    folder = cache.entry(
        local_path(config.data.cache, "config.data.cache") / "functions", key, lambda folder: _build(folder, chosen)
    )
    found = [Function(**json.loads(line)) for line in (folder / LISTED).read_text("utf-8").splitlines()]
    return found, key


def of_files(train: list[dict[str, Any]], valid: list[dict[str, Any]], digest: str) -> Examples:
    """Rows with a field ``file`` as examples."""
    first, second = (tuple(f"a function of {row['file']}" for row in side) for side in (train, valid))
    return Examples(train, valid, digest, (first, second))


def _package(name: str) -> str:
    return name.partition("/")[0].removesuffix(".py")


def _build(folder: Path, files: Documents) -> None:
    with open(folder / LISTED, "w", encoding="utf-8") as out:
        for i in bars.bar(range(len(files.names)), desc="reading functions", leave=False, bar_format=BAR):
            for function in in_file(files.names[i], files.read(i)):
                print(json.dumps(asdict(function)), file=out)


def in_file(name: str, text: str) -> Iterator[Function]:
    """The functions of a file, those inside of others apart; none of a file that is of another Python."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the file's own literals
        try:
            body: deque[ast.stmt] = deque(ast.parse(text).body)
        except SyntaxError:
            return
    lines = text.splitlines()
    while body:
        node = body.popleft()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield _function(name, node, lines)
        elif isinstance(node, ast.ClassDef):
            body.extendleft(reversed(node.body))


def _function(name: str, node: ast.FunctionDef | ast.AsyncFunctionDef, lines: list[str]) -> Function:
    docstring = ast.get_docstring(node)
    first, last = node.lineno - 1, node.end_lineno or node.lineno
    kept = lines[first:last]
    summary = ""
    own_lines = not lines[node.body[0].lineno - 1][: node.body[0].col_offset].strip()
    if docstring is not None and own_lines:
        begin, end = node.body[0].lineno - 1 - first, (node.body[0].end_lineno or 0) - first
        kept = kept[:begin] + kept[end:]
        summary = docstring.strip().partition("\n")[0].strip()
    return Function(name, textwrap.dedent("\n".join(kept)).strip(), summary)
