"""Settings of runs: ``base`` has every knob, the other files differ from it in a few.

``--config=`` takes the name of a file here (``quickstart``, ``gpt2:124m``), or a path to one of your own.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from gpt_jax.config import Config
from gpt_jax.errors import UserError, did_you_mean
from gpt_jax.overrides import INHERITED
from gpt_jax.storage import local_path
from gpt_jax.user_code import load_module, naming_errors_of

HERE = Path(__file__).resolve().parent


def pick(sizes: dict, size: str) -> dict:
    """The row of a table of sizes."""
    if size not in sizes:
        raise ValueError(f"there is no size {size!r}; the sizes are {', '.join(sizes)}")
    return sizes[size]


def names() -> list[str]:
    """The presets that come with the package."""
    return sorted(path.stem for path in HERE.glob("*.py") if not path.stem.startswith("_"))


def find(spec: str) -> Path:
    """The file that ``spec`` names: a path of the user's, else a preset by name, with or without ``configs/`` and ``.py``.

    Raises:
      UserError: neither is there.
    """
    own = local_path(spec, "--config")
    if own.is_file():
        return own
    name = own.stem if own.suffix == ".py" or len(own.parts) == 1 else ""
    if name in names() and own.parent in (Path("."), Path("configs")):
        return HERE / f"{name}.py"
    raise UserError(
        f"there is no file {spec}, and no preset of that name",
        where="--config",
        allowed=f"a Python file, or one of {', '.join(names())}",
        fix=did_you_mean(own.stem, names()),
    )


def load(spec: str) -> ConfigDict:
    """The settings that ``spec`` names: PATH or NAME, with ``:ARGUMENT`` for its ``get_config`` where it takes one.

    Raises:
      UserError: no such file, what its code raises, or it has no ``get_config`` that returns a ConfigDict.
    """
    local_path(spec, "--config")  # before a colon in it is taken for one of ours
    name, _, argument = spec.partition(":")
    path = find(name)
    module = load_module(path)
    if not hasattr(module, "get_config"):
        raise UserError(
            f"{path} has no function get_config()",
            where="--config",
            fix="a study, with a function sweep(), is run by the verb sweep" if hasattr(module, "sweep") else "",
        )
    with naming_errors_of(path, "get_config"):
        made = module.get_config(argument) if argument else module.get_config()
    if not isinstance(made, ConfigDict):
        raise UserError(f"get_config() returns a {type(made).__name__}", where=str(path), allowed="a ConfigDict")
    return made


def settled(settings: Mapping[str, Any], workdir: Path | None = None) -> Config:
    """A run's configuration from its user's settings, in which knobs may have the value "start": as in what training starts
    from.

    Args:
      settings: a ConfigDict, or a nested mapping.
      workdir: of the run, where it is known; what a run began with it keeps.

    Raises:
      UserError: a value is not allowed, or there is no such start.
    """
    values = settings.to_dict() if isinstance(settings, ConfigDict) else settings
    if any(isinstance(knobs, Mapping) and INHERITED in knobs.values() for knobs in values.values()):
        from gpt_jax.configs import base
        from gpt_jax.train.starting import inherit

        values = inherit.filled(values, workdir, base.get_config().to_dict())
    return Config.from_dict(values)


def of_run(workdir: str | Path) -> ConfigDict:
    """The settings of a run, over the defaults of today's knobs.

    Raises:
      UserError: there is no run, or its settings are damaged.
    """
    from gpt_jax.config import typed
    from gpt_jax.configs import base
    from gpt_jax.run_directory import read_sections

    config, stored = base.get_config(), read_sections(workdir)
    defaults = config.to_dict()
    typed({section: defaults.get(section, {}) | stored.get(section, {}) for section in {**defaults, **stored}})
    for section, knobs in stored.items():
        for key, value in knobs.items():
            field = config[section].get_ref(key)
            field.set(tuple(value) if isinstance(value, list) else value)
    return config
