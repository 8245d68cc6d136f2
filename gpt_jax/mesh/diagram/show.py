"""Drawings on request: ``launch.py plan --diagram``."""

import dataclasses
from pathlib import Path

from gpt_jax.config import Config
from gpt_jax.data.open import open_data
from gpt_jax.errors import UserError
from gpt_jax.mesh.diagram.svg import svg
from gpt_jax.mesh.diagram.text import text
from gpt_jax.mesh.diagram.trace import graph


def show(config: Config, name: str, to: str) -> None:
    """Prints the drawing of a configuration's model, or writes it to a file.

    Args:
      name: above the drawing.
      to: "text", or the path of a file to be made, in which case it ends in .svg.

    Raises:
      UserError: neither, or the file cannot be written.
    """
    if to != "text" and Path(to).suffix != ".svg":
        raise UserError(
            f"{to!r} is no kind of drawing", where="--diagram", allowed="text, or a file name ending in .svg"
        )
    model = config.model
    if not model.vocab:
        model = dataclasses.replace(model, vocab=open_data(config).vocab)
    drawn = graph(model)
    if to == "text":
        print(text(drawn, name), end="")
        return
    try:
        Path(to).write_text(svg(drawn, name), encoding="utf-8")
    except OSError as error:
        raise UserError(f"{to} cannot be written: {error.strerror}", where="--diagram") from None
    print(f"wrote {to}")
