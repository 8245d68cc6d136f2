"""Finished runs as points of a scaling law: a table with one row for each."""

import csv
import dataclasses
import io
import math
from pathlib import Path

import numpy as np

from gpt_jax.errors import UserError
from gpt_jax.study.sweep import run_rows
from gpt_jax.study.sweep.results import SweepResults

NEEDED = ("params", "tokens", "loss")
POSITIVE = (*NEEDED, "flops")


@dataclasses.dataclass(frozen=True)
class RunTable:
    """Columns of equal length [M]; ``flops`` is 6 params tokens where the table has none.

    ``excluded`` names each excluded row and the reason.
    """

    names: tuple[str, ...]
    columns: dict[str, np.ndarray]
    excluded: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, column: str) -> np.ndarray:
        return self.columns[column]

    def take(self, which: np.ndarray) -> "RunTable":
        """The points with the given indices, or where a mask is true."""
        columns = {name: values[which] for name, values in self.columns.items()}
        return RunTable(tuple(np.asarray(self.names)[which].tolist()), columns, self.excluded)


def read(path: Path) -> RunTable:
    """A CSV with the columns params, tokens, loss, and optionally flops, name, status and others that a law needs.

    Runs that did not finish, or whose loss is not finite, are excluded and named.

    Raises:
      UserError: no such file, a missing column, or a value that is not a positive number, with its line.
    """
    if not path.is_file():
        raise UserError(
            f"{path} is not a file", where="--runs", allowed="a CSV with columns params,tokens,loss[,flops]"
        )
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path} is not UTF-8 at byte {error.start}",
            where="--runs",
            fix=f"iconv -f WINDOWS-1252 -t UTF-8 {path.name}, if a spreadsheet wrote it",
        ) from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}", where="--runs") from None
    return _parse(text, path)


def of_sweep(workdir: Path) -> RunTable:
    """The runs of a sweep, as ``read`` gives them of its runs.csv.

    Raises:
      UserError: the directory holds no sweep.
    """
    rows = run_rows.rows(SweepResults.read(workdir))
    return _parse(run_rows.to_csv(rows), workdir / "runs.csv")


def _parse(text: str, path: Path) -> RunTable:
    """``path`` is for messages."""
    with io.StringIO(text, newline="") as file:
        reader = csv.DictReader(file, skipinitialspace=True)
        names = [name.strip() for name in reader.fieldnames or []]
        missing = [name for name in NEEDED if name not in names]
        if missing:
            raise UserError(
                f"{path} has no column {', '.join(missing)}",
                where=f"line 1: {','.join(names)}",
                allowed="params,tokens,loss[,flops][,name] and the columns of the law",
            )
        reader.fieldnames = names
        rows = [(reader.line_num, row) for row in reader]
    points, excluded = [], []
    for line, row in rows:
        name = (row.get("name") or "").strip() or f"line {line}"
        if why := _unfinished(row):
            excluded.append(f"{name}: {why}")
        else:
            points.append((name, {key: _number(path, line, key, row[key]) for key in names if _is_column(key, row)}))
    numeric = [key for key in names if points and all(key in values for _, values in points)]
    columns = {key: np.array([values[key] for _, values in points]) for key in numeric}
    if points:
        columns.setdefault("flops", 6 * columns["params"] * columns["tokens"])
    return RunTable(tuple(name for name, _ in points), columns, tuple(excluded))


def _unfinished(row: dict[str, str]) -> str:
    status = (row.get("status") or "done").strip()
    if status != "done":
        return f"its status is {status}"
    loss = (row.get("loss") or "").strip().lower().lstrip("+-")
    return f"its loss is {row['loss'] or 'missing'}" if loss in ("", "nan", "inf", "infinity") else ""


def _is_column(key: str, row: dict[str, str]) -> bool:
    """Whether a row has a number in this column, or must have one."""
    if key in POSITIVE:
        return True
    try:
        return math.isfinite(float(row[key]))
    except (TypeError, ValueError):
        return False


def _number(path: Path, line: int, key: str, text: str | None) -> float:
    try:
        value = float((text or "").replace("_", ""))
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or (key in POSITIVE and value <= 0):
        raise UserError(
            f"{key} is {text!r}", where=f"{path}, line {line}", allowed="a positive number, such as 124e6 or 124000000"
        )
    return value
