"""Which tensor of a Hugging Face model holds which of our parameters, and in what order of axes.

Axes are letters: D width, N heads, K key/value heads, H head dim, F mlp width, V vocabulary, T context, E experts. A
tensor's order is written like "(N H) D": axes in parentheses are merged. p runs over several parameters in one tensor:
"D (p N H)" has them side by side, "(N p H) D" head by head.
"""

import dataclasses
import math
import re
from collections.abc import Iterable, Sequence

import numpy as np

from gpt_jax.config import ModelConfig
from gpt_jax.model.mlp import moe


@dataclasses.dataclass(frozen=True)
class Row:
    """One tensor; ``{i}`` in a name is the layer.

    Args:
      ours, axes: paths of the parameters that it holds, and their axes.
      theirs, order: its name, and its axes.
      skip: rows in front that mean nothing to us.
      plus: our parameter is so much more than theirs.
    """

    ours: tuple[str, ...]
    axes: str
    theirs: str
    order: str
    skip: int = 0
    plus: float = 0.0

    def shape(self, sizes: dict[str, int]) -> tuple[int, ...]:
        """Of their tensor."""
        sizes = {**sizes, "p": len(self.ours)}
        first, *rest = (math.prod(sizes[letter] for letter in group) for group in groups(self.order))
        return (first + self.skip, *rest)

    def our_shape(self, sizes: dict[str, int]) -> tuple[int, ...]:
        return tuple(sizes[letter] for letter in self.axes.split())

    def split(self, theirs: np.ndarray, sizes: dict[str, int]) -> list[np.ndarray]:
        """Our parameters, as views of their tensor; ``plus`` is still to be added."""
        letters = [letter for group in groups(self.order) for letter in group]
        sizes = {**sizes, "p": len(self.ours)}
        parts = theirs[self.skip :].reshape([sizes[letter] for letter in letters])
        wanted = [*("p" if "p" in letters else ""), *self.axes.split()]
        parts = parts.transpose([letters.index(letter) for letter in wanted])
        return list(parts) if "p" in letters else [parts]

    def join(self, ours: Sequence[np.ndarray], sizes: dict[str, int]) -> np.ndarray:
        """Their tensor, its bytes in the order of its axes (safetensors 0.8.0 writes any other order wrongly)."""
        letters = [letter for group in groups(self.order) for letter in group]
        parts = np.stack(ours) if "p" in letters else ours[0]
        have = [*("p" if "p" in letters else ""), *self.axes.split()]
        flat = parts.transpose([have.index(letter) for letter in letters]).reshape(-1) - self.plus
        shape = self.shape(sizes)
        rows = np.zeros((self.skip, *shape[1:]), flat.dtype)
        return np.ascontiguousarray(
            np.concatenate([rows, flat.reshape(-1, *shape[1:])]) if self.skip else flat
        ).reshape(shape)


def sizes_of(model: ModelConfig) -> dict[str, int]:
    """The size of every letter."""
    return {
        "D": model.width,
        "N": model.heads,
        "K": model.kv_heads,
        "H": model.head_dim,
        "F": model.mlp_width,
        "V": model.vocab,
        "T": model.context,
        "E": moe.settings(model.mlp).experts,
    }


def linear(ours: str, theirs: str, inputs: str, outputs: str) -> tuple[Row, ...]:
    """PyTorch's linear layer, whose matrix has outputs before inputs, and its bias."""
    return (
        Row((f"{ours}/w",), f"{inputs} {outputs}", f"{theirs}.weight", f"({outputs}) ({inputs})"),
        Row((f"{ours}/bias",), outputs, f"{theirs}.bias", f"({outputs})"),
    )


def conv1d(ours: Iterable[str], theirs: str, inputs: str, outputs: str) -> tuple[Row, ...]:
    """GPT-1's and GPT-2's linear layer, inputs before outputs; several of ours lie side by side."""
    ours = tuple(ours)
    together = f"p {outputs}" if len(ours) > 1 else outputs
    return (
        Row(tuple(f"{path}/w" for path in ours), f"{inputs} {outputs}", f"{theirs}.weight", f"({inputs}) ({together})"),
        Row(tuple(f"{path}/bias" for path in ours), outputs, f"{theirs}.bias", f"({together})"),
    )


def norm(ours: str, theirs: str, axis: str = "D", plus: float = 0.0) -> tuple[Row, ...]:
    """A norm's scale, and its bias."""
    return (
        Row((f"{ours}/scale",), axis, f"{theirs}.weight", axis, plus=plus),
        Row((f"{ours}/bias",), axis, f"{theirs}.bias", axis),
    )


def table(ours: str, theirs: str, axes: str, skip: int = 0) -> tuple[Row, ...]:
    """A table of vectors."""
    return (Row((f"{ours}/w",), axes, f"{theirs}.weight", axes, skip),)


def groups(order: str) -> list[list[str]]:
    """The letters of every axis of a tensor."""
    return [group.strip("()").split() for group in re.findall(r"\([^)]*\)|\w", order)]
