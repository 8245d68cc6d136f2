"""Guidance by a negative prompt (classifier-free guidance of language models, Sanchez et al. 2023).

Beside every row of a batch its companion is decoded: the negative prompt, and after it the tokens that the row writes.
Rows B to 2B - 1 of what the model is given are the companions, which have a cache and positions of their own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


@dataclass(frozen=True)
class Guidance:
    """
    Args:
      scale: what a row's scores become is u + scale (c - u), c and u being the logarithms of the probabilities after its
        prompt and after the negative one; 1 leaves them as they are.
      negative: token ids; without any, the last one of the row's prompt.
    """

    scale: float
    negative: tuple[int, ...] = ()


OFF = Guidance(1.0)


def companion(given: Guidance | None, prompt: Sequence[int]) -> Sequence[int]:
    """The prompt of a row's companion. One without guidance has one too, which has no effect."""
    return (given or OFF).negative or prompt[-1:]


def rows_of(given: Sequence[tuple[Guidance | None, Sequence[int]]], filled: int, width: int) -> dict[str, np.ndarray]:
    """What the programs take of rows, each with its guidance and prompt, and of empty rows up to ``filled``."""
    arrays = {"negative_BP": np.zeros((filled, width), np.int32), "negative_B": np.ones(filled, np.int32)}
    arrays["scale_B"] = np.ones(filled, np.float32)
    for row, (own, prompt) in enumerate(given):
        ids = companion(own, prompt)
        arrays["negative_BP"][row, width - len(ids) :], arrays["negative_B"][row] = ids, len(ids)
        arrays["scale_B"][row] = (own or OFF).scale
    return arrays


def prompts(tokens_BP, rows: dict[str, Any]) -> tuple[jax.Array, jax.Array]:
    """The prompts of rows and companions, [2B, P], and their lengths."""
    return jnp.concatenate([tokens_BP, rows["negative_BP"]]), jnp.concatenate([rows["prompt_B"], rows["negative_B"]])


def turn(tokens_B1, positions_B1, state: dict[str, Any]) -> tuple[jax.Array, jax.Array]:
    """The last tokens of rows and companions, which are the same, and their positions."""
    own_B1 = positions_B1 + (state["negative_B"] - state["prompt_B"])[:, None]
    return jnp.concatenate([tokens_B1, tokens_B1]), jnp.concatenate([positions_B1, own_B1])


def places(at_J, rows: int) -> jax.Array:
    """The places of rows and of their companions, among ``rows`` of each; those beyond stay beyond."""
    return jnp.concatenate([jnp.where(at_J < rows, at_J, 2 * rows), at_J + rows])


def mixed(logits_BV, scale_B) -> tuple[jax.Array, jax.Array]:
    """Of the logits of rows and companions, the rows' own, and those that guidance makes of them."""
    own_BV, _ = jnp.split(logits_BV, 2)
    given_BV, negative_BV = jnp.split(jax.nn.log_softmax(logits_BV), 2)
    guided_BV = negative_BV + scale_B[:, None] * (given_BV - negative_BV)
    return own_BV, jnp.where(scale_B[:, None] == 1, own_BV, guided_BV)
