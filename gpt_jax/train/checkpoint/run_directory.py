"""What a run directory says about its run: configuration and tokenizer."""

import json
from pathlib import Path
from typing import Any

from gpt_jax.config import Config
from gpt_jax.data import tokenizers
from gpt_jax.errors import UserError

CONFIG = "config.json"
TOKENIZER = "tokenizer.json"


def previous_config(workdir: Path) -> Config | None:
    """The configuration of the run in ``workdir``, or None where there is none."""
    return Config.from_dict(read_config(workdir)) if (workdir / CONFIG).exists() else None


def read_config(workdir: str | Path) -> dict[str, Any]:
    """The configuration a run directory was made with.

    Raises:
      UserError: there is no run.
    """
    path = Path(workdir) / CONFIG
    try:
        return json.loads(path.read_text("utf-8-sig"))
    except FileNotFoundError:
        raise UserError(
            f"there is no run in {workdir}", where=str(path), fix="train one: launch.py train --workdir=…"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{CONFIG} cannot be read: {error}", where=str(path)) from error


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
