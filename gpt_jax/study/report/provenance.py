"""What a stranger needs to make a result again: settings, code, versions, machine and cost of a sweep's runs."""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

from gpt_jax.storage import read_json
from gpt_jax.study.sweep.prepare import tuning
from gpt_jax.study.sweep.results import SweepResults
from gpt_jax.train.record import environment
from gpt_jax.train.record.metrics import read_summary

NEEDED = ("shared", "arms", "seeds", "settings", "commits", "changed", "packages", "machines", "seconds")


def provenance(results: SweepResults) -> dict[str, Any]:
    """Of a complete sweep, as JSON values.

    Returns:
      "shared": dotted knob -> [default, value in all arms]; "arms": arm -> overrides; "seeds"; "settings": a hash of these;
      "notes", such as how arms were tuned; "commits" of this package, and whether files were "changed" since; "packages"
      and "machines" that trained; "seconds": arm -> seed -> seconds of its run; "tuning_seconds" of all runs before.
    """
    starts = [start for id in results.runs for start in _starts(results, id)]
    git = [start.get("git") or {} for start in starts]
    found = {
        "shared": {knob: list(pair) for knob, pair in results.shared.items()},
        "arms": {arm: dict(overrides) for arm, overrides in results.arms.items()},
        "seeds": list(results.seeds),
        "notes": list(results.notes),
        "commits": _distinct(one.get("revision") or "unknown" for one in git),
        "changed": any(one.get("dirty", True) for one in git),
        "packages": _distinct(start.get("packages", {}) for start in starts),
        "machines": _distinct(_machine(start) for start in starts),
        "seconds": _seconds(results),
        "tuning_seconds": round(tuning_seconds(results), 1),
    }
    return found | {"settings": settings_hash(found)}


def settings_hash(found: Mapping[str, Any]) -> str:
    """Twelve hexadecimal digits of the settings of all runs."""
    settings = {name: found[name] for name in ("shared", "arms", "seeds")}
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()[:12]


def lacking(found: Mapping[str, Any]) -> list[str]:
    """What a kept result does not say, or says of other settings than its own."""
    missing = [name for name in NEEDED if name not in found]
    if not missing and found["settings"] != settings_hash(found):
        missing.append(f"settings whose hash is {found['settings']}")
    return missing


def _starts(results: SweepResults, id: str) -> list[dict[str, Any]]:
    return read_json(results.directory(id) / environment.NAME, missing={"starts": []})["starts"]


def _machine(start: Mapping[str, Any]) -> dict[str, Any]:
    return {name: start.get(name) for name in ("platform", "python", "cpus", "devices")}


def _seconds(results: SweepResults) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for id, run in results.runs.items():
        seconds = read_summary(results.directory(id)).get("seconds")
        if seconds is not None:
            found.setdefault(run.arms[0], {})[str(run.seed)] = round(seconds, 1)
    return found


def tuning_seconds(results: SweepResults) -> float:
    """Summed over the runs that a knob was tuned by beforehand; 0 where none was."""
    folder = results.workdir / tuning.FOLDER
    before = _seconds(SweepResults.read(folder)) if folder.is_dir() else {}
    return math.fsum(seconds for row in before.values() for seconds in row.values())


def _distinct(values: Iterable[Any]) -> list[Any]:
    """Each of several JSON values once, in their order."""
    return list({json.dumps(value, sort_keys=True): value for value in values}.values())
