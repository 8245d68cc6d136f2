"""Knobs with the value "start": they are as in the model that training starts from."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gpt_jax.errors import UserError
from gpt_jax.overrides import INHERITED
from gpt_jax.run_directory import CONFIG
from gpt_jax.train.starting import places

OF_DATA = ("tokenizer", "template")  # knobs of data that a model has


def filled(values: Mapping[str, Any], workdir: Path | None, defaults: Mapping[str, Any]) -> Mapping[str, Any]:
    """Complete settings, in which no knob of the model's, nor tokenizer and template, is "start" any more.

    A run that has begun goes on with what it has, so that it needs its start no longer.

    Args:
      workdir: of the run; None where there is none yet.
      defaults: a complete configuration, whose knobs hold where the start says nothing.

    Raises:
      UserError: there is no start, or it cannot be read.
    """
    asked = [("model", key) for key, value in values["model"].items() if value == INHERITED]
    asked += [("data", key) for key, value in values["data"].items() if value == INHERITED and key in OF_DATA]
    if not asked:
        return values
    found = _own(values, asked, workdir, defaults)
    for section, key in asked:
        values = {**values, section: {**values[section], key: found[section][key]}}
    return values


def _own(
    values: Mapping[str, Any], asked: list[tuple[str, str]], workdir: Path | None, defaults: Mapping[str, Any]
) -> Mapping[str, Any]:
    if workdir is not None and (workdir / CONFIG).is_file():
        return places.stored(workdir, defaults).to_dict()
    where = values["tune"]["start"]
    if not where:
        knobs = ", ".join(".".join(knob) for knob in asked)
        raise UserError(
            f"{knobs} {'is' if len(asked) == 1 else 'are'} to be as in the start, and none is named",
            where=places.WHERE,
            allowed=places.ALLOWED,
            fix="--config.tune.start=runs/q",
        )
    return places.settings(places.find(where), defaults).to_dict()
