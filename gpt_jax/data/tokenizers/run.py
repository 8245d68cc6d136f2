"""The tokenizer of another run."""

from pathlib import Path

from gpt_jax.data.tokenizers import Texts, Tokenizer, from_json
from gpt_jax.errors import UserError
from gpt_jax.registry import register
from gpt_jax.storage import local_path

NAME = "tokenizer.json"  # of a run directory
DAMAGED = (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError, RecursionError)


@register("data.tokenizers", "run", reads=("/checkpoints",))
def run(texts: Texts, *, path: str) -> Tokenizer:
    """The tokenizer that the run in the directory ``path`` was trained with.

    Raises:
      UserError: there is none, or its file is damaged.
    """
    folder = local_path(path, "config.data.tokenizer")
    if not (folder / NAME).is_file():
        raise UserError(
            f"there is no {NAME} in {path}", where="config.data.tokenizer", allowed="a run whose tokens are text"
        )
    return read(folder / NAME)


def read(path: Path) -> Tokenizer:
    """What a run's ``tokenizer.json`` holds.

    Raises:
      UserError: it is damaged.
    """
    try:
        return from_json(path.read_text("utf-8"))
    except DAMAGED as error:
        raise UserError(f"{path.name} cannot be read: {error}", where=str(path)) from error
