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

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "tokenizers")


def facts(config: Config) -> dict[str, str]:
    """Name -> value; of the code a digest."""
    versions = {f"the version of {name}": importlib.metadata.version(name) for name in PACKAGES}
    knobs = {f"config.{name}": repr(value) for name, value in flatten(config).items()}
    return knobs | versions | {"the version of Python": platform.python_version(), "the code's digest": _code()}


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
