"""Arms that need the runs of other arms: {"tune.start": "arm:pretrained"} begins at the run of that arm with the same seed.

So may teachers, references, reward models and tokenizers be: "distill(teacher='arm:large')", "model(run='arm:judge')",
"run(path='arm:large')". Until a run is trained its directory is written ``run:<id>``, so that a run's identity does not
depend on where the sweep is.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from gpt_jax.config import Config
from gpt_jax.errors import UserError, did_you_mean
from gpt_jax.overrides import INHERITED

KNOBS = tuple(("tune", knob) for knob in ("start", "reference", "objective", "reward"))  # that may name arms
KNOBS += (("data", "tokenizer"),)
ARM, RUN = re.compile("arm:([^'\"]+)"), re.compile("run:([0-9a-f]+)")


def needed(values: Mapping[str, Any], arms: Iterable[str], chain: Sequence[str]) -> list[str]:
    """The arms whose runs an arm needs.

    Args:
      values: complete settings.
      chain: the arms that need it, the last one being the arm itself.

    Raises:
      UserError: there is no such arm, or it needs itself.
    """
    known, found = list(arms), []
    for section, knob in KNOBS:
        for name in ARM.findall(str(values[section][knob])):
            where = f"{section}.{knob}"
            if name not in known:
                raise UserError(
                    f"arm {chain[-1]!r} needs {name!r}, and there is no such arm",
                    where=where,
                    allowed=", ".join(known),
                    fix=did_you_mean(name, known),
                )
            if name in chain:
                raise UserError(f"arm {name!r} needs itself", where=where)
            found.append(name)
    return list(dict.fromkeys(found))


def begun(values: Mapping[str, Any], runs: Mapping[str, tuple[str, Config]]) -> dict[str, Any]:
    """The settings of an arm with the runs that it needs, and with what is to be as in its start filled in.

    Args:
      runs: arm -> id and settings of its run.
    """
    filled = {section: dict(knobs) for section, knobs in values.items()}
    if start := ARM.fullmatch(values["tune"]["start"]):
        id, parent = runs[start[1]]
        own = parent.to_dict()
        for section, knobs in filled.items():
            knobs.update({key: own[section][key] for key, value in knobs.items() if value == INHERITED})
        if values["data"]["tokenizer"] == INHERITED:
            filled["data"]["tokenizer"] = f"run(path='run:{id}')"
    for section, knob in KNOBS:
        filled[section][knob] = _replaced(ARM, lambda arm: f"run:{runs[arm[1]][0]}", filled[section][knob])
    return filled


def located(values: Mapping[str, Any], runs: Path) -> dict[str, Any]:
    """The settings of a run, with the directories of the runs that it needs.

    Args:
      runs: the folder that they are in.
    """
    filled = {section: dict(knobs) for section, knobs in values.items()}
    for section, knob in KNOBS:
        filled[section][knob] = _replaced(RUN, lambda run: str(runs / run[1]), filled[section][knob])
    return filled


def _replaced(pattern: re.Pattern, name: Callable[[re.Match], str], value: Any) -> Any:
    """A knob's value with what the pattern finds in its texts replaced; weighted rewards are texts within tuples."""
    if isinstance(value, str):
        return pattern.sub(name, value)
    return type(value)(_replaced(pattern, name, part) for part in value) if isinstance(value, tuple | list) else value


def waves(jobs: Sequence[Any], ready: Callable[[str], bool]) -> Iterator[list[Any]]:
    """Jobs in the order in which they can be trained: those that need nothing, then those that need these, …

    Args:
      jobs: with ``id``, and ``after``, the ids of the runs that a job needs.
      ready: whether a run has been trained.
    """
    left = list(jobs)
    while left:
        now = [job for job in left if all(map(ready, job.after))]
        if not now:
            return
        left = [job for job in left if job not in now]
        yield now
