"""Python files of users, as modules: settings and studies. What their code raises is told with its line."""

import importlib
import importlib.util
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

from gpt_jax.errors import Failure, UserError


def load_module(path: Path) -> ModuleType:
    """A file of settings, or a study, as a module.

    Raises:
      UserError: what its code raises, with the line.
    """
    # Files that were written beside a checkout say ``from configs import base``; it means this package.
    sys.modules.setdefault("configs", importlib.import_module("gpt_jax.configs"))
    spec = importlib.util.spec_from_file_location(f"settings_{path.stem}", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise UserError(f"{path} is not a Python file", where="--config")
    module = importlib.util.module_from_spec(spec)
    with naming_errors_of(path, "the file"):
        spec.loader.exec_module(module)
    return module


class naming_errors_of:
    """Context in which whatever a user's own code raises becomes a UserError that names the file and the line."""

    def __init__(self, path: Path, what: str, fix: str = ""):
        self.path, self.what, self.fix = path, what, fix

    def __enter__(self) -> None: ...

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if error is None or isinstance(error, Failure) or not isinstance(error, Exception):
            return
        frames = traceback.extract_tb(trace)
        lines = [f":{frame.lineno}" for frame in frames if Path(frame.filename).resolve() == self.path.resolve()]
        line = lines[-1] if lines else f":{error.lineno}" if isinstance(error, SyntaxError) else ""
        told = f"{self.what} raised {type(error).__name__}: {error}"
        raise UserError(told, where=f"{self.path}{line}", fix=self.fix) from error
