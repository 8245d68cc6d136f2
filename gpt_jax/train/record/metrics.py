"""metrics.jsonl, the record of a run's numbers, and summary.json, its last and best ones.

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
from gpt_jax.storage import fields_that_differ, from_json, read_json, refused, to_json, write_atomically, write_json

NAME = "metrics.jsonl"
SUMMARY = "summary.json"
_VALUE = float | str | bool | None
_SUMMARISED: dict[str, Any] = {
    "status": str,
    **dict.fromkeys(("steps", "tokens", "params", "lost_steps"), int),
    **dict.fromkeys(("flops", "seconds", "training_seconds", "compile_seconds", "goodput"), float),
    "final": dict[str, _VALUE],
    "best": dict[str, _VALUE],
    "best_by": str,
    "shown": dict[str, str],
    "seconds_by_part": dict[str, float],
}


class MetricsLog:
    """The open metrics.jsonl of a run.

    A resumed run first drops, atomically, the records past the step it resumes from and a torn last line. So that no
    record is lost or written twice, write all records of step k before the checkpoint of k commits, ``sync`` included.

    Args:
      workdir: the run directory.
      resume_step: completed updates of the state the run starts from; -1 = a new run, which keeps no record.

    Attributes:
      evaluations: step -> its valid/… record, of those that were kept.

    Raises:
      StorageError: the file cannot be read or written, or a line other than the last is damaged.
    """

    def __init__(self, workdir: str | Path, resume_step: int):
        self.path = Path(workdir) / NAME
        kept = [(line, record) for line, record in _lines(self.path) if record["step"] <= resume_step]
        self.evaluations = {
            record["step"]: record for _, record in kept if any(name.startswith("valid/") for name in record)
        }
        write_atomically(self.path, "".join(f"{line}\n" for line, _ in kept))
        self._file = open(self.path, "ab", buffering=0)  # one write(2) a record: a kill between records tears none

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """Appends a record; ``values`` holds "tokens" and scalars of any kind (Python, NumPy, JAX), by name.

        Raises:
          StorageError: the disk refuses.
        """
        values = dict(values)
        record = {"step": int(step), "tokens": int(values.pop("tokens")), "time": round(time.time(), 3)}
        record |= {name: to_json(value) for name, value in values.items()}
        line = (json.dumps(record, allow_nan=False) + "\n").encode()
        try:
            written = self._file.write(line)
        except OSError as error:
            raise refused(self.path, error) from error
        if written != len(line):
            raise StorageError("the disk took only a part of a record", where=str(self.path), fix="make room on it")

    def sync(self) -> None:
        """Waits until every record is on the disk, so that it outlives the machine and not just the process."""
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise refused(self.path, error) from error

    def close(self) -> None:
        self._file.close()


def read(workdir: str | Path) -> list[dict[str, Any]]:
    """The records of a run, oldest first; an incomplete last line, as a running or killed writer leaves it, is skipped.

    Raises:
      StorageError: a line other than the last is damaged; the message names it.
    """
    return [record for _, record in _lines(Path(workdir) / NAME)]


def summarise(
    records: list[dict[str, Any]], best_by: str = "valid/loss", highest: bool = False
) -> dict[str, dict[str, Any]]:
    """ "final": the last value of every name; "best": the first record with the lowest finite ``best_by``, or the highest;
    empty if none."""
    final = {name: value for record in records for name, value in record.items()}
    rated = [record for record in records if math.isfinite(record.get(best_by, math.nan))]
    sign = -1 if highest else 1
    return {"final": final, "best": min(rated, key=lambda record: sign * record[best_by], default={})}


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
    return read_json(Path(workdir) / SUMMARY, missing={}, fields=_SUMMARISED)


def _lines(path: Path) -> list[tuple[str, dict[str, Any]]]:
    """(line, record) of every complete line of a file, which may be missing."""
    try:
        raw = path.read_bytes().splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise refused(path, error) from error
    found = []
    for number, line in enumerate(raw, start=1):
        try:
            record = from_json(json.loads(line.decode()))
            if wrong := fields_that_differ(record, {**dict.fromkeys(record, _VALUE), "step": int, "tokens": int}):
                raise ValueError(wrong)
            found.append((line.decode(), {"step": record["step"], "tokens": record["tokens"], **record}))
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            if number < len(raw):
                raise StorageError(
                    f"line {number} of {path.name} is not a record: {line[:60]!r}",
                    where=f"{path}:{number}",
                    fix="remove that line; only the last one may be incomplete",
                ) from error
    return found
