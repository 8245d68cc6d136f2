"""Python files of users as modules: settings and studies. An error that their code raises names file and line."""

import contextlib
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from gpt_jax.errors import Failure, UserError

PREFIX = "settings_"  # of the names of such modules


def load_module(path: Path) -> ModuleType:
    """A file of settings, or a study, as a module.

    Raises:
      UserError: what its code raises, with the line.
    """
    # Files that were written beside a checkout say ``from configs import base``; it means this package.
    sys.modules.setdefault("configs", importlib.import_module("gpt_jax.configs"))
    spec = importlib.util.spec_from_file_location(f"{PREFIX}{path.stem}", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise UserError(f"{path} is not a Python file", where="--config")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    with naming_errors_of(path, "the file"):
        spec.loader.exec_module(module)
    return module


@contextlib.contextmanager
def naming_errors_of(path: Path, what: str, fix: str = "") -> Iterator[None]:
    """Whatever a user's own code raises becomes a UserError that names the file and the line."""
    try:
        yield
    except Failure:
        raise
    except (Exception, SystemExit) as error:
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if Path(frame.filename).resolve() == path.resolve()]
        line = lines[-1] if lines else error.lineno if isinstance(error, SyntaxError) else None
        where = f"{path}:{line}" if line else str(path)
        raise UserError(f"{what} raised {type(error).__name__}: {error}", where=where, fix=fix) from error
