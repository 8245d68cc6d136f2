"""The command line of another process that runs this package."""

import os
import site
import sys
from pathlib import Path

LOCATION = Path(__file__).resolve().parents[2]  # of the package: a checkout, or site-packages


def python_module(name: str) -> list[str]:
    """The command that runs a module of this package, whatever files lie in the folder that the user stands in: a relative
    path of a configuration is one of that folder, an import is not."""
    return [sys.executable, "-P", "-m", name]


def python_path() -> str:
    """PYTHONPATH that makes another process import the package that this one runs."""
    installed = [Path(folder).resolve() for folder in (*site.getsitepackages(), site.getusersitepackages())]
    # A folder of PYTHONPATH comes before the standard library, which site-packages may hold old backports of.
    own = [] if LOCATION in installed else [str(LOCATION)]
    return os.pathsep.join(own + [folder for folder in os.environ.get("PYTHONPATH", "").split(os.pathsep) if folder])


def without(words: list[str], *names: str) -> list[str]:
    """A command line without the flags of these names, whether their value follows ``=`` or is the next word."""
    kept: list[str] = []
    value_follows = False
    for word in words:
        name, equals, _ = word.lstrip("-").partition("=")
        dropped = word.startswith("-") and name in names
        if not dropped and not value_follows:
            kept.append(word)
        value_follows = dropped and not equals
    return kept
