"""What a case must leave as it was: whatever lies outside its own folder."""

import stat
from collections.abc import Container, Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OPEN = (Path("/dev"), Path("/"), ROOT)  # where a user who may write everywhere can do harm by a short path


class Surroundings:
    """
    Args:
      folder: in which cases have their folders.
      shared: what they start from; every file in it is looked at.
      others: folders of which the entries are looked at: what there is, and of which kind, not what it holds.
    """

    def __init__(self, folder: Path, shared: Path, others: Iterable[Path] = OPEN):
        self._folder, self._shared, self._others = folder, shared, tuple(others)
        self._before = self._seen(())

    def changes(self, cases: Container[str]) -> list[str]:
        """What is other than at the last look, a line each. ``cases``: the names of their folders."""
        before, self._before = self._before, self._seen(cases)
        here = self._before
        found = [(path, "made") for path in here.keys() - before.keys()]
        found += [(path, "removed") for path in before.keys() - here.keys()]
        found += [(path, "changed") for path in before.keys() & here.keys() if before[path] != here[path]]
        return [f"{path} was {what}, outside the folder of a case" for path, what in sorted(found)]

    def _seen(self, cases: Container[str]) -> dict[Path, tuple]:
        """A mark of each path that differs once it is another thing or, in what is shared, holds something else."""
        found = {path: _contents(path) for path in self._shared.rglob("*")}
        entries = [path for place in (self._folder, *self._others) for path in _entries(place)]
        return found | {path: _kind(path) for path in entries if path.name not in cases}


def _entries(place: Path) -> list[Path]:
    return [path for path in place.iterdir() if not path.name.startswith(".")]


def _kind(path: Path) -> tuple:
    try:
        found = path.lstat()
    except OSError:  # it went in between
        return ()
    return stat.S_IFMT(found.st_mode), found.st_rdev


def _contents(path: Path) -> tuple:
    found = path.lstat()
    return stat.S_IFMT(found.st_mode), found.st_size if path.is_file() else 0, found.st_mtime_ns
