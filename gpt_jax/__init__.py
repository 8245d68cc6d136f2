"""A laboratory for GPT-style language models in JAX and Flax.

    model = gpt_jax.load("runs/q")                  # a run, one step of it, or a directory of Hugging Face's
    gpt_jax.train("quickstart", "runs/q")           # what `launch.py train` does
    gpt_jax.sweep("my_ablation.py", "sweeps/x")     # what `launch.py sweep` does

Rooms, from the top: ``train`` and ``sample`` use ``mesh``, ``data`` and ``model``; those use ``config``, ``registry`` and
``errors``. Imports point down that list and never up.

Letters that end the names of arrays (and spell their einsums):

    B batch · T time (query positions) · S source time (keys, cache slots) · D model width · N heads · K kv heads
    G query heads per kv head · H head dimension · F mlp width · V vocabulary · L layers
"""

import importlib
import types
from typing import Any

import gpt_jax.train as _train_room

# Imported when they are asked for, as they need JAX.
_LAZY = {"load": "gpt_jax.api", "sweep": "gpt_jax.api", "Model": "gpt_jax.api", "Sweep": "gpt_jax.study.sweep"}
__all__ = ["Model", "Sweep", "configs", "load", "sweep", "train"]


class _TrainRoom(types.ModuleType):
    """``gpt_jax.train``, the package, which is the function of that name too: Python binds a package's name to it."""

    def __call__(self, config: Any, workdir: Any, overrides: Any = None, **knobs: Any) -> Any:
        """``gpt_jax.api.train``."""
        return importlib.import_module("gpt_jax.api").train(config, workdir, overrides, **knobs)


_train_room.__class__ = _TrainRoom


def __getattr__(name: str) -> Any:
    if name == "configs":
        return importlib.import_module("gpt_jax.configs")
    if name not in _LAZY:
        raise AttributeError(f"module 'gpt_jax' has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
