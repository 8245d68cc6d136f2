"""metrics.jsonl, the source of truth of a run's numbers, and summary.json, what they came to.

One JSON object a line: step (completed updates), tokens (trained on so far), time (Unix seconds), then names such as
train/loss. Floats are written with repr, so they read back to the last bit; what JSON cannot say is a string: "nan",
"inf", "-inf".
"""

import json
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gpt_jax.errors import StorageError

NAME = "metrics.jsonl"
SUMMARY = "summary.json"
_NON_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


class MetricsLog:
    """The open metrics.jsonl of a run.

    A resumed run first drops, atomically, the records past the step it resumes from and a torn last line. So that no
    record is lost or written twice, write all records of step k before the checkpoint of k commits, ``sync`` included.

    Args:
      workdir: the run directory.
      resume_step: completed updates of the state the run starts from; -1 = a new run, which keeps no record.

    Raises:
      StorageError: the file cannot be read or written, or a line other than the last is damaged.
    """

    def __init__(self, workdir: str | Path, resume_step: int):
        self.path = Path(workdir) / NAME
        kept = [line for line, record in _lines(self.path) if record["step"] <= resume_step]
        write_atomically(self.path, "".join(f"{line}\n" for line in kept))
        self._file = open(self.path, "ab", buffering=0)  # one write(2) a record: a kill between records tears none

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """Appends a record; ``values`` holds "tokens" and scalars of any kind (Python, NumPy, JAX), by name.

        Raises:
          StorageError: the disk refuses.
        """
        values = dict(values)
        record = {"step": int(step), "tokens": int(values.pop("tokens")), "time": round(time.time(), 3)}
        record |= {name: _to_json(value) for name, value in values.items()}
        line = (json.dumps(record, allow_nan=False) + "\n").encode()
        try:
            written = self._file.write(line)
        except OSError as error:
            raise _refused(self.path, error) from error
        if written != len(line):
            raise StorageError("the disk took only a part of a record", where=str(self.path), fix="make room on it")

    def sync(self) -> None:
        """Waits until every record is on the disk, so that it outlives the machine and not just the process."""
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise _refused(self.path, error) from error

    def close(self) -> None:
        self._file.close()


def read(workdir: str | Path) -> list[dict[str, Any]]:
    """The records of a run, oldest first; a torn last line, as a running or killed writer leaves it, is left out.

    Raises:
      StorageError: a line other than the last is damaged; the message names it.
    """
    return [record for _, record in _lines(Path(workdir) / NAME)]


def summarise(records: list[dict[str, Any]], best_by: str = "valid/loss") -> dict[str, dict[str, Any]]:
    """ "final": the last value of every name; "best": the record with the lowest finite ``best_by``, empty if none."""
    final = {name: value for record in records for name, value in record.items()}
    rated = [record for record in records if math.isfinite(record.get(best_by, math.nan))]
    return {"final": final, "best": min(rated, key=lambda record: record[best_by], default={})}


def write_summary(workdir: str | Path, values: Mapping[str, Any]) -> Path:
    """Writes summary.json atomically and returns its path.

    Args:
      values: status (done, stopped, ...), steps, tokens, flops, seconds, final and best (see ``summarise``), and any more.

    Raises:
      StorageError: the disk refuses.
    """
    missing = [key for key in ("status", "steps", "tokens", "flops", "seconds", "final", "best") if key not in values]
    if missing:
        raise ValueError(f"a summary lacks {', '.join(missing)}")
    return write_json(Path(workdir) / SUMMARY, values)


def read_summary(workdir: str | Path) -> dict[str, Any]:
    """The contents of summary.json, empty where the run has not written one."""
    return read_json(Path(workdir) / SUMMARY, missing={})


def write_json(path: Path, values: Any) -> Path:
    """Writes ``values`` as JSON, atomically; non-finite floats become strings."""
    write_atomically(path, json.dumps(_to_json(values), indent=2, allow_nan=False) + "\n")
    return path


def read_json(path: Path, missing: Any) -> Any:
    """What ``write_json`` wrote, or ``missing`` where there is no such file.

    Raises:
      StorageError: the file is damaged or cannot be read.
    """
    try:
        return _from_json(json.loads(path.read_text("utf-8")))
    except FileNotFoundError:
        return missing
    except ValueError as error:
        raise StorageError(f"{path.name} is not JSON: {error}", where=str(path), fix="remove it") from error
    except OSError as error:
        raise _refused(path, error) from error


def write_atomically(path: Path, text: str) -> None:
    """Replaces a file by ``text``: whenever the machine stops, the old or the new contents are there, whole.

    Raises:
      StorageError: the disk refuses.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise _refused(path, error) from error


def _lines(path: Path) -> list[tuple[str, dict[str, Any]]]:
    """(line, record) of every whole line of a file, which may be missing."""
    try:
        raw = path.read_bytes().splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise _refused(path, error) from error
    found = []
    for number, line in enumerate(raw, start=1):
        try:
            record = _from_json(json.loads(line.decode()))
            found.append((line.decode(), {"step": record["step"], "tokens": record["tokens"], **record}))
        except (ValueError, KeyError, TypeError) as error:
            if number < len(raw):
                raise StorageError(
                    f"line {number} of {path.name} is not a record: {line[:60]!r}",
                    where=f"{path}:{number}",
                    fix="remove that line; only the last one may be incomplete",
                ) from error
    return found


def _to_json(value: Any) -> Any:
    """Containers and scalars of any kind as JSON has them."""
    if isinstance(value, Mapping):
        return {str(key): _to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_to_json(item) for item in value]
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    return value


def _from_json(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _from_json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_from_json(item) for item in value]
    return _NON_FINITE.get(value, value) if isinstance(value, str) else value


def _refused(path: Path, error: OSError) -> StorageError:
    return StorageError(f"{path.name} cannot be read or written: {error.strerror}", where=str(path))
