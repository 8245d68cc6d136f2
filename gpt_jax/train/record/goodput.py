"""Goodput: the share of a run's wall-clock that went into steps that count, over all launches, and where the rest went.

goodput.json is written in place after every step, so that what a launch did until it was killed stays on record: steps
past its last checkpoint are lost, and the next launch does them again. What it did after its last step, evaluation or
save is not known.
"""

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gpt_jax.storage import damaged, read_json, refused, write_atomically
from gpt_jax.train.monitors.watchdog import COMPILE, ROLLOUTS, STEP, WORDS, Phases
from gpt_jax.train.record.progress import duration

NAME = "goodput.json"
USEFUL = (STEP, ROLLOUTS)  # phases that make a model
LOST = "lost"  # USEFUL until a launch was killed, and done again
GOOD = 0.95  # a share below it is shown at the end of a run
OTHER = "other"  # of launches that kept no such record
PARTS = (*WORDS, LOST, OTHER)
_FIELDS = {"step": int, "lost_steps": int, "seconds": dict[str, float]}
# Of one length, so that a write in place leaves nothing of the one before.
_SECONDS = ", ".join(f'"{part}": %14.6f' for part in PARTS)
_TEXT = f'{{"step": %12d, "lost_steps": %12d, "seconds": {{{_SECONDS}}}}}\n'


class Goodput:
    """The seconds of a run by part: a phase of ``WORDS``, "lost" or "other". They add up to the wall-clock of its launches.

    Args:
      workdir: the run directory; None: nothing is written, as by all processes but the first.
      phases: the clock of this launch.
      group_size: runs trained as one program: each counts its share of the seconds.
      start: completed updates that the run resumes from.
      notes: of the checkpoint of ``start``; {} where there is none.

    Raises:
      StorageError: goodput.json is damaged, or the disk refuses.
    """

    def __init__(self, workdir: Path | None, phases: Phases, group_size: int, start: int, notes: Mapping[str, Any]):
        self._phases, self._group_size = phases, group_size
        known = read(workdir) if workdir else {}
        saved = notes.get("goodput") or _before(notes)
        # A file behind the checkpoint is not the account of what led to it.
        self._earlier, self.lost_steps = _resumed(known if known.get("step", -1) >= start else saved, saved, start)
        self._path, self._descriptor = (workdir or Path()) / NAME, -1
        if workdir:
            write_atomically(self._path, self._text(start))
            self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CLOEXEC)

    def write(self, step: int) -> None:
        """Records that ``step`` updates are complete, and the seconds until now.

        Raises:
          StorageError: the disk refuses.
        """
        if self._descriptor >= 0:
            try:
                os.pwrite(self._descriptor, self._text(step).encode(), 0)
            except OSError as error:
                raise refused(self._path, error) from error

    def close(self) -> None:
        """May be called again."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    @property
    def seconds(self) -> dict[str, float]:
        """By part, up to now."""
        here = self._phases.seconds
        return {part: self._earlier[part] + here.get(part, 0.0) / self._group_size for part in PARTS}

    def notes(self) -> dict[str, Any]:
        """What a checkpoint keeps of it."""
        return {"lost_steps": self.lost_steps, "seconds": self.seconds}

    def summary(self) -> dict[str, Any]:
        """What summary.json says of it; parts of no time are left out."""
        seconds = self.seconds
        return {
            "seconds": round(sum(seconds.values()), 3),
            "compile_seconds": round(seconds[COMPILE], 3),
            "goodput": round(share(seconds), 4),
            "lost_steps": self.lost_steps,
            "seconds_by_part": {part: round(value, 3) for part, value in seconds.items() if value >= 0.001},
        }

    def _text(self, step: int) -> str:
        return _TEXT % (step, self.lost_steps, *self.seconds.values())


def read(workdir: Path) -> dict[str, Any]:
    """What goodput.json says: "step", "lost_steps" and "seconds" by part; {} where there is none.

    Raises:
      StorageError: it is damaged.
    """
    path = workdir / NAME
    found = read_json(path, missing={}, fields=_FIELDS)
    if found and (absent := _FIELDS.keys() - found):
        raise damaged(path, f"it has no {', '.join(sorted(absent))}")
    if found and not all(0 <= value < math.inf for value in found["seconds"].values()):
        raise damaged(path, "its seconds are not all numbers from 0 up")
    return found


def share(seconds: Mapping[str, float]) -> float:
    """Of the seconds by part, those that went into steps that count: 0 to 1."""
    return sum(seconds.get(part, 0.0) for part in USEFUL) / (sum(seconds.values()) or 1.0)


def words(found: Mapping[str, Any]) -> str:
    """In a line: the share, of how long, and where the rest went, the longest first.

    Args:
      found: has "lost_steps", and by part "seconds" (of ``read``) or "seconds_by_part" (of ``Goodput.summary``).
    """
    seconds = found.get("seconds_by_part", found["seconds"])
    total = sum(seconds.values()) or 1.0
    rest = sorted(((value, part) for part, value in seconds.items() if part not in USEFUL), reverse=True)
    parts = [f"{part} {value / total:.0%}" for value, part in rest if value >= 0.005 * total]
    lost = f"; {found['lost_steps']:,} steps lost and done again" if found["lost_steps"] else ""
    return f"{share(seconds):.0%} of {duration(total)} on steps that count; {', '.join(parts) or 'nothing else'}{lost}"


def _before(notes: Mapping[str, Any]) -> dict[str, Any]:
    """The account of a checkpoint that has none: of its steps, and of all else."""
    steps = notes.get("training_seconds", 0.0)
    return {"seconds": {STEP: steps, OTHER: max(0.0, notes.get("seconds", 0.0) - steps)}}


def _resumed(known: Mapping[str, Any], saved: Mapping[str, Any], start: int) -> tuple[dict[str, float], int]:
    """The seconds and the lost steps of a run that goes on after ``start`` updates: useful time that the checkpoint has not
    is lost."""
    seconds = dict.fromkeys(PARTS, 0.0) | known.get("seconds", {})
    for part in USEFUL:
        kept = min(seconds[part], saved["seconds"].get(part, 0.0))
        seconds[LOST] += seconds[part] - kept
        seconds[part] = kept
    return seconds, known.get("lost_steps", 0) + max(0, known.get("step", start) - start)
