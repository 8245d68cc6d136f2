"""The start of a run in words: its devices, data, parameters and directory, a line each as soon as each is known."""

import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from gpt_jax.config import Config, MeshConfig, TrainConfig
from gpt_jax.data.open import Data
from gpt_jax.mesh.mesh import AXES
from gpt_jax.model import flops

Say = Callable[[str, str], None]  # (label, text)


def nothing(label: str, text: str) -> None:
    """The ``Say`` of runs that are opened in silence."""


def on_stderr(label: str, text: str) -> None:
    """A line on standard error, of process 0 alone."""
    if jax.process_index() == 0:
        print(f"{label:<15} {text}", file=sys.stderr, flush=True)


def devices(mesh: Mesh) -> str:
    first = mesh.devices.flat[0]
    axes = " x ".join(f"{axis}={size}" for axis, size in mesh.shape.items() if size > 1) or "one device"
    processes = f" of {jax.process_count()} processes" if jax.process_count() > 1 else ""
    return f"{axes}: {mesh.size} x {first.device_kind}{processes}"


def refitted(asked: MeshConfig, used: MeshConfig) -> str:
    """A reader's mesh where the one that was asked for does not fit the devices."""
    wanted, found = ([f"{axis}={getattr(mesh, axis)}" for axis in AXES] for mesh in (asked, used))
    changes = [f"{new} instead of {old}" for old, new in zip(wanted, found, strict=True) if old != new]
    return f"{', '.join(changes)}, to fit {jax.device_count()} device{'s' if jax.device_count() > 1 else ''}"


def data_to_read(config: Config) -> str:
    """What is about to be read; tokenising a long text takes minutes, once."""
    return f"reading {config.data.source}; tokenised texts are kept in {config.data.cache}"


def data(read: Data, config: Config) -> str:
    tokenizer = config.data.tokenizer if read.tokenizer is not None else "no tokenizer"
    uncounted = "; no bits per byte" + ("" if read.segmented else ", as tokens and text differ in bytes")
    return (
        f"{read.train.tokens:,} tokens for training, {read.valid.tokens:,} for validation; vocabulary"
        f" {read.vocab:,} ({tokenizer}){uncounted if read.tokenizer is not None and read.byte_lengths is None else ''}"
    )


def parameters(config: Config, trained: Any) -> str:
    """How many there are, and how many of them are ``trained``, where that is another number."""
    counted, own = flops.parameters(config.model), sum(leaf.size for leaf in jax.tree.leaves(trained))
    some, rest = "" if own == counted.total else f"{own:,} trained of ", counted.total - counted.non_embedding
    return (
        f"{some}{counted.total:,} = {counted.non_embedding:,} non-embedding + {rest:,} embedding;"
        f" float32, computed in {config.model.dtype}"
    )


def checkpoints(settings: TrainConfig) -> str:
    """Which of them ``keep_best`` compares, where some have no evaluation and some evaluations have none; else empty."""
    saved, evaluated = settings.save_every, settings.eval_every
    both = math.lcm(saved, evaluated)
    if not settings.keep_best or saved >= settings.steps or both in (saved, evaluated):
        return ""
    every = f"of every {both} steps and " if both < settings.steps else ""
    return (
        f"train.keep_best compares the checkpoints {every}of the last one: the others are saved (every {saved} steps)"
        f" and not evaluated (every {evaluated})"
    )


def directory(workdir: Path) -> str:
    return f"{workdir}; the first step follows when it is compiled"
