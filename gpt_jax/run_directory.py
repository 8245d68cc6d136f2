"""What a run directory says about its run: configuration and tokenizer."""

import contextlib
import dataclasses
import json
from pathlib import Path
from typing import Any

from gpt_jax import registry
from gpt_jax.config import Config
from gpt_jax.data import tokenizers
from gpt_jax.data.tokenizers import run
from gpt_jax.errors import UserError

CONFIG = "config.json"
TOKENIZER = run.NAME
CARRIED = "huggingface"  # what an imported model's directory held beside its tensors
HERE = "{run}"  # in config.json: the run directory, wherever it has been moved to

BEFORE: dict[str, dict[str, Any]] = {
    "data": {"template": "plain"},
    "tune": {
        **{"start": "", "objective": "lm", "adapter": "none", "reference": ""},
        **{"reward": "", "samples": 8, "updates": 1, "epochs": 1},
    },
    "train": {"eval_stride": 0},
    "eval": {"stride": 0, "tasks": ()},
    "mesh": {
        **{"context_strategy": "ring", "rounds": 1, "microbatches": 0, "start_timeout": 300, "heartbeat_timeout": 20},
        **{"step_timeout": 600.0, "phase_timeout": 3600.0},
    },
}  # what runs did before there were such knobs
NO_SECTIONS = f"{CONFIG} is damaged: it holds no sections of settings"


def previous_config(workdir: Path, today: Config) -> Config | None:
    """The configuration of the run in ``workdir``, or None where there is none.

    Knobs that the run was made without say what runs did before there were such. A tokenizer that the run has from its start
    is whatever today's configuration calls it: the fingerprint of the data says whether it is the same.

    Args:
      today: where the knobs of sampling come from that the run was made without; no number of a training depends on them.
    """
    if not (workdir / CONFIG).exists():
        return None
    values = read_sections(workdir)
    for section, knobs in {**BEFORE, "sample": dataclasses.asdict(today.sample)}.items():
        values[section] = knobs | values.get(section, {})
    if values.get("data", {}).get("tokenizer") == own_tokenizer(workdir):
        values["data"]["tokenizer"] = today.data.tokenizer
    return Config.from_dict(values)


def config_json(config: Config, workdir: Path) -> str:
    """The text of config.json: files that a run carries are named relative to it, so that it can be moved."""
    values = config.to_dict()
    call = own_tokenizer(workdir) if _is_of_start(config) else config.data.tokenizer
    values["data"]["tokenizer"] = _moved(call, workdir, Path(HERE))
    return json.dumps(values, indent=2) + "\n"


def own_tokenizer(workdir: Path) -> str:
    """The tokenizer that the run in ``workdir`` carries, as data.tokenizer names it."""
    return f"run(path={str(workdir.absolute())!r})"


def _is_of_start(config: Config) -> bool:
    """Whether the tokenizer is another run's, or a file of the directory that training starts from."""
    name, arguments = registry.parse(config.data.tokenizer)
    start, path = config.tune.start, arguments.get("path")
    inside = start and isinstance(path, str) and Path(path).is_relative_to(Path(start).expanduser().absolute())
    return name == "run" or bool(inside)


def _moved(call: str, old: Path, new: Path) -> str:
    """A call such as file(path='…'), with the run directory, or its folder of carried files, in another place."""
    name, arguments = registry.parse(call)
    before, after = f"{old / CARRIED}/", f"{new / CARRIED}/"

    def place(value: Any) -> Any:
        if not isinstance(value, str):
            return value
        return (
            str(new) if value == str(old) else after + value.removeprefix(before) if value.startswith(before) else value
        )

    moved = {key: place(value) for key, value in arguments.items()}
    return call if moved == arguments else f"{name}({', '.join(f'{key}={value!r}' for key, value in moved.items())})"


def read_config(workdir: str | Path) -> dict[str, Any]:
    """The configuration a run directory was made with.

    Raises:
      UserError: there is no run.
    """
    path = Path(workdir) / CONFIG
    try:
        values = json.loads(path.read_text("utf-8-sig"))
    except FileNotFoundError:
        raise UserError(
            f"there is no run in {workdir}", where=str(path), fix="train one: launch.py train --workdir=…"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{CONFIG} cannot be read: {error}", where=str(path)) from error
    if not isinstance(values, dict):
        raise UserError(NO_SECTIONS, where=str(path))
    with contextlib.suppress(
        KeyError, TypeError, AttributeError, UserError
    ):  # what is no run's is for others to refuse
        values["data"]["tokenizer"] = _moved(values["data"]["tokenizer"], Path(HERE), Path(workdir).absolute())
    return values


def read_sections(workdir: str | Path) -> dict[str, dict[str, Any]]:
    """``read_config`` of a run, whose settings are tables of knobs.

    Raises:
      UserError: there is no run, or its settings are damaged.
    """
    values = read_config(workdir)
    if not all(isinstance(knobs, dict) for knobs in values.values()):
        raise UserError(NO_SECTIONS, where=str(Path(workdir) / CONFIG))
    return values


def read_tokenizer(workdir: str | Path) -> tokenizers.Tokenizer | None:
    """The tokenizer a run was trained with; None where its tokens are not text.

    Raises:
      UserError: the file is damaged.
    """
    path = Path(workdir) / TOKENIZER
    return run.read(path) if path.exists() else None
