"""What has to be the same in every process of a run (``mesh.agreement``): settings, code and packages."""

import hashlib
import importlib.metadata
import platform
import sys
from collections.abc import Iterator
from pathlib import Path

import gpt_jax
from gpt_jax.config import Config, flatten
from gpt_jax.user_code import PREFIX

PACKAGES = (
    "gpt_jax",
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "grain",
    "tokenizers",
    "ml-collections",
    "numpy",
)


def facts(config: Config) -> dict[str, str]:
    """Name -> value; of the code a digest."""
    knobs = {f"config.{name}": repr(value) for name, value in flatten(config).items()}
    installed = {"Python": platform.python_version(), **versions()}
    return (
        knobs | {f"the version of {name}": value for name, value in installed.items()} | {"the code's digest": _code()}
    )


def versions() -> dict[str, str]:
    """Of the packages that numbers may depend on."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "none"
    return found


def _code() -> str:
    """Of this package's files, and of the files of settings that are loaded."""
    found = hashlib.sha256()
    for path in (*sorted(Path(gpt_jax.__file__).parent.rglob("*.py")), *_settings()):
        found.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return found.hexdigest()[:16]


def _settings() -> Iterator[Path]:
    for name, module in sorted(sys.modules.items()):
        if name.startswith(PREFIX) and getattr(module, "__file__", None):
            yield Path(str(module.__file__))
