"""What a run directory says about its run: configuration and tokenizer."""

import contextlib
import dataclasses
import json
from pathlib import Path
from typing import Any

from gpt_jax import registry
from gpt_jax.config import Config
from gpt_jax.data import tokenizers
from gpt_jax.errors import UserError

CONFIG = "config.json"
TOKENIZER = "tokenizer.json"
CARRIED = "huggingface"  # what an imported model's directory held beside its tensors
HERE = "{run}"  # in config.json: the run directory, wherever it has been moved to


def previous_config(workdir: Path, today: Config) -> Config | None:
    """The configuration of the run in ``workdir``, or None where there is none.

    Args:
      today: where the knobs of sampling come from that the run was made without; no number of a training depends on them.
    """
    if not (workdir / CONFIG).exists():
        return None
    values = read_config(workdir)
    if isinstance(values, dict) and isinstance(values.get("sample"), dict):
        values["sample"] = dataclasses.asdict(today.sample) | values["sample"]
    return Config.from_dict(values)


def config_json(config: Config, workdir: Path) -> str:
    """The text of config.json: files that a run carries are named relative to it, so that it can be moved."""
    values = config.to_dict()
    values["data"]["tokenizer"] = _moved(values["data"]["tokenizer"], workdir, Path(HERE))
    return json.dumps(values, indent=2) + "\n"


def _moved(call: str, old: Path, new: Path) -> str:
    """A call such as file(path='…'), with the folder of carried files in another run directory."""
    name, arguments = registry.parse(call)
    before, after = f"{old / CARRIED}/", f"{new / CARRIED}/"
    moved = {
        key: after + value.removeprefix(before) if isinstance(value, str) and value.startswith(before) else value
        for key, value in arguments.items()
    }
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
    with contextlib.suppress(
        KeyError, TypeError, AttributeError, UserError
    ):  # what is no run's is for others to refuse
        values["data"]["tokenizer"] = _moved(values["data"]["tokenizer"], Path(HERE), Path(workdir).absolute())
    return values


def read_tokenizer(workdir: str | Path) -> tokenizers.Tokenizer | None:
    """The tokenizer a run was trained with; None where its tokens are not text.

    Raises:
      UserError: the file is damaged.
    """
    path = Path(workdir) / TOKENIZER
    if not path.exists():
        return None
    try:
        return tokenizers.from_json(path.read_text("utf-8"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError, RecursionError) as error:
        raise UserError(f"{TOKENIZER} cannot be read: {error}", where=str(path)) from error
