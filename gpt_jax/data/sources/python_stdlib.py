"""The running interpreter's own standard library: real text that is on every machine."""

import os
import re
import sysconfig
from pathlib import Path

from gpt_jax.config import Config
from gpt_jax.data.documents import Documents, from_files
from gpt_jax.errors import UserError
from gpt_jax.registry import register

LEFT_OUT = {"site-packages", "dist-packages", "__pycache__", "test", "tests", "idle_test", "lib2to3", "lib-dynload"}
GENERATED = re.compile(rb"generated (by|from|and used)|auto-?generated", re.IGNORECASE)
HEAD = 400  # bytes in which a generated file says so: character maps, pydoc's topics, build settings


@register("data.sources", "python_stdlib")
def python_stdlib(config: Config) -> Documents:
    """Its ``.py`` files without tests and generated files, about 10 MB; a file is a document.

    The same Python gives the same text.

    Raises:
      UserError: this interpreter comes without its library's source.
    """
    root = Path(sysconfig.get_paths()["stdlib"])
    names = []
    for folder, below, files in os.walk(root):
        below[:] = [name for name in below if name not in LEFT_OUT]
        paths = [Path(folder, name) for name in files if name.endswith(".py")]
        names += [path.relative_to(root).as_posix() for path in paths if not _is_generated(path)]
    if not names:
        raise UserError(
            f"this Python has no source of its standard library in {root}",
            where="config.data.source",
            fix="use text(path=...) with text of your own",
        )
    names.sort()
    return from_files([root / name for name in names], names)


def _is_generated(path: Path) -> bool:
    with open(path, "rb") as file:
        return bool(GENERATED.search(file.read(HEAD)))
