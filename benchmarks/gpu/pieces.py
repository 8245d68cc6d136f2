"""What the GPU suite measures, in order of worth; nothing here imports JAX, which would take the GPU."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# A piece is a generator of parts: a label, and a call that measures it and answers in JSON's types.
Parts = Iterator[tuple[str, Callable[[], dict[str, Any]]]]


@dataclass(frozen=True)
class Task:
    """What a piece gets: toy sizes or not, and a folder that it shares with the pieces after it."""

    toy: bool
    scratch: Path


@dataclass(frozen=True)
class Piece:
    """A measurement in a process of its own.

    Args:
      target: "module:function" of a function from a ``Task`` to ``Parts``.
      limit: seconds it may take.
      flags: added to XLA_FLAGS.
      environment: set besides.
    """

    target: str
    limit: float
    flags: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)


STEPS, BITS = "benchmarks.gpu.steps", "benchmarks.gpu.bits"
NO_CACHE = {"JAX_ENABLE_COMPILATION_CACHE": "false"}
PIECES = {
    "product": Piece("benchmarks.gpu.rates:product", 60),
    "step": Piece(f"{STEPS}:step", 150),
    "logits": Piece(f"{STEPS}:logits", 110),
    # Without CUDA graphs, in which a kernel does not say which operation it is of.
    "profile": Piece("benchmarks.gpu.profile:profile", 120, flags="--xla_gpu_enable_command_buffer="),
    "decode": Piece("benchmarks.gpu.decode:decode", 110),
    "355m": Piece(f"{STEPS}:medium", 90),
    "774m": Piece(f"{STEPS}:large", 120),
    "1558m": Piece(f"{STEPS}:xl", 140),
    "torch": Piece("benchmarks.gpu.beside_torch:turns", 170),
    "exact": Piece(f"{BITS}:exact", 150),
    "resumed": Piece(f"{BITS}:resumed", 80),
    "attention": Piece(f"{STEPS}:attention", 120),
    "layers": Piece(f"{STEPS}:layers", 130),
    "flags": Piece(f"{STEPS}:flags", 150),
    "no_graphs": Piece(f"{STEPS}:plain", 50, flags="--xla_gpu_enable_command_buffer="),
    "dtype": Piece(f"{STEPS}:dtype", 110),
    "recompiled": Piece(f"{BITS}:resumed", 100, environment=NO_CACHE),
}
