"""Parameters on the host by path, in the layout of checkpoints and with unrolled layers (``gpt_jax.model.layout``)."""

import re
from collections.abc import Mapping

import numpy as np

Arrays = dict[str, np.ndarray]
Shapes = dict[str, tuple[int, ...]]
BLOCK = re.compile(r"blocks/(\d+)/(.*)")


def unrolled(arrays: Mapping[str, np.ndarray], period: int) -> Arrays:
    """Stacked -> unrolled, as views."""
    found: Arrays = {}
    for path, leaf in arrays.items():
        if block := BLOCK.fullmatch(path):
            found |= {f"blocks/{turn * period + int(block[1])}/{block[2]}": part for turn, part in enumerate(leaf)}
        else:
            found[path] = leaf
    return found


def unrolled_shapes(shapes: Mapping[str, tuple[int, ...]], period: int) -> Shapes:
    """The same of shapes."""
    found: Shapes = {}
    for path, shape in shapes.items():
        if block := BLOCK.fullmatch(path):
            first, rest = int(block[1]), block[2]
            found |= {f"blocks/{turn * period + first}/{rest}": shape[1:] for turn in range(shape[0])}
        else:
            found[path] = shape
    return found


def stacked(arrays: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]], period: int) -> Arrays:
    """Unrolled -> stacked.

    Args:
      shapes: of the stacked parameters.
    """
    found: Arrays = {}
    for path, shape in shapes.items():
        if block := BLOCK.fullmatch(path):
            layers = range(int(block[1]), shape[0] * period, period)
            found[path] = np.stack([arrays[f"blocks/{layer}/{block[2]}"] for layer in layers])
        else:
            found[path] = arrays[path]
    return found
