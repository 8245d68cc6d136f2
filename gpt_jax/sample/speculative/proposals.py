"""What proposes tokens: ``Proposer``."""

from dataclasses import dataclass
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from gpt_jax.sample.engine.program import Program, Sizes


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Proposal:
    """G tokens that may follow each row's text.

    Args:
      tokens_BG: ids.
      q_GBV: the distributions that they were drawn from, after the processors.
      count_B: how many of them are proposed, the first ones.
    """

    tokens_BG: jax.Array
    q_GBV: jax.Array
    count_B: jax.Array


class Proposer(Protocol):
    """Where proposals come from. Hashable, as programs are compiled for one; its weights are an argument of theirs."""

    def begin(self, program: Program, weights: Any, tokens_BP, lengths_B, sizes: Sizes) -> dict:
        """What it keeps of rows whose prompts were read (see ``engine.read``)."""
        ...

    def propose(self, program: Program, weights: Any, state: dict) -> tuple[Proposal, dict]:
        """Tokens for each row, and the state with what it keeps as "draft".

        Args:
          weights: {"model", "draft"}.
          state: of ``passes``.
        """
        ...

    @property
    def tokens(self) -> int:
        """G."""
        ...

    @property
    def context(self) -> int | None:
        """The longest text that it can propose for; None: any."""
        ...


def last(state: dict, count: int) -> tuple[jax.Array, jax.Array]:
    """The last ``count`` tokens of each row, and the first of their positions, which may be below 0."""
    first_B = state["length_B"] - count
    at_BC = jnp.maximum(first_B[:, None] + jnp.arange(count), 0)
    return jnp.take_along_axis(state["tokens_BS"], at_BC, axis=1), first_B


def positions(state: dict, first_B, count: int) -> jax.Array:
    """Positions of ``count`` tokens from ``first_B`` on, [B, count]; -1, which is padding, outside of the longest text."""
    at_BC = first_B[:, None] + jnp.arange(count)
    end_B1 = (state["prompt_B"] + state["limit_B"])[:, None]
    return jnp.where((at_BC >= 0) & (at_BC < end_B1), at_BC, -1)
