"""Finished runs as points of a scaling law: a table with one row for each."""

import codecs
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
FINISHED = ("", "done", "finished", "complete", "completed", "success", "succeeded")  # words of trackers and schedulers
FLOPS_APART = 300  # units differ by 1000 or more


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


def settings(points: RunTable, columns: tuple[str, ...]) -> np.ndarray:
    """For each run the number of its settings, [M]: runs that agree in these columns share one."""
    rows = np.stack([points[name] for name in columns], axis=1)
    return np.unique(rows, axis=0, return_inverse=True)[1].ravel()


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
    return _parse(_decoded(path), path)


def _decoded(path: Path) -> str:
    """The text of a table: UTF-8, or UTF-16 where a byte order mark says so."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}", where="--runs") from None
    encoding = "utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{path} is not {encoding.removesuffix('-sig').upper()}: byte {error.start} is 0x{data[error.start]:02x}",
            where=f"{path}, line {line}",
            fix='save the table as UTF-8 ("CSV UTF-8" in spreadsheets)',
        ) from None


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
        rows = _rows(reader, path)
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
    table = RunTable(tuple(name for name, _ in points), columns, tuple(excluded))
    _check_flops(table, path)
    return table


def _rows(reader: csv.DictReader, path: Path) -> list[tuple[int, dict]]:
    """Every row with the number of its last line."""
    rows: list[tuple[int, dict]] = []
    try:
        rows.extend((reader.line_num, row) for row in reader)
    except csv.Error as error:
        raise UserError(f"{path} is no table: {error}", where=f"{path}, line {reader.line_num + 1}") from None
    for line, row in rows:
        if more := row.get(None):
            raise UserError(
                f"a row has {len(more)} more cells than the head",
                where=f"{path}, line {line}",
                fix="write numbers without thousands separators, and texts with commas in quotes",
            )
    return rows


def _check_flops(table: RunTable, path: Path) -> None:
    """Refuses a column "flops" in another unit: a law would be of those numbers, and look right."""
    if not len(table):
        return
    ratio = table["flops"] / (6 * table["params"] * table["tokens"])
    worst = int(np.argmax(np.abs(np.log(ratio))))
    if abs(math.log(ratio[worst])) > math.log(FLOPS_APART):
        raise UserError(
            f"{table.names[worst]}: flops is {ratio[worst]:.2g} times 6 params tokens, {table['flops'][worst]:.4g} against"
            f" {table['flops'][worst] / ratio[worst]:.4g}",
            where=f"{path}, columns params, tokens and flops",
            allowed=f"within a factor of {FLOPS_APART}, as architectures and conventions differ",
            fix="give parameters, tokens and floating point operations as plain numbers (a PF-day is 8.64e19 of them), or"
            " leave the column flops out",
        )


def _unfinished(row: dict[str, str]) -> str:
    status = (row.get("status") or "done").strip()
    if status.lower() not in FINISHED:
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
