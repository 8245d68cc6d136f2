"""Settings changed knob by knob, by dotted names: {"optim.lr": 1e-3}."""

import json
from collections.abc import Mapping
from typing import Any

from gpt_jax.errors import UserError, did_you_mean

INHERITED = "start"  # a knob's value that stands for that of the model that training starts from


def changed(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a complete configuration (a ConfigDict, or a nested mapping) with some knobs set.

    Raises:
      UserError: there is no such knob.
    """
    values = plain(base)
    for knob, value in changes.items():
        section, _, key = knob.partition(".")
        if key not in values.get(section, {}):
            known = [f"{name}.{key}" for name, keys in values.items() for key in keys]
            raise UserError(
                f"there is no knob {knob}",
                where=f"config.{knob}",
                allowed="the knobs of configs/base.py",
                fix=did_you_mean(knob, known),
            )
        values[section][key] = value
    return values


def plain(settings: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """A complete configuration as nested dictionaries of JSON values."""
    text = settings.to_json_best_effort() if hasattr(settings, "to_json_best_effort") else json.dumps(settings)
    return json.loads(text)
