"""Proposals from the text itself: what followed when its last tokens stood there before."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from gpt_jax.sample.engine.program import Program, Sizes
from gpt_jax.sample.speculative.proposals import Proposal


@dataclass(frozen=True)
class Lookup:
    """What followed the first occurrence of the longest n-gram that the text ends with (Saxena 2023, prompt lookup).

    Args:
      tokens: proposed at a time, at most.
      ngram: tokens of an n-gram, at most.
    """

    tokens: int
    ngram: int
    context: None = None

    def begin(self, program: Program, weights: Any, tokens_BP, lengths_B, sizes: Sizes) -> dict:
        return {}

    def propose(self, program: Program, weights: Any, state: dict) -> tuple[Proposal, dict]:
        find = jax.vmap(lambda text_S, length: _found(text_S, length, self.tokens, self.ngram))
        tokens_BG, count_B = find(state["tokens_BS"], state["length_B"])
        q_GBV = jax.nn.one_hot(tokens_BG.T, program.config.vocab)
        return Proposal(tokens_BG, q_GBV, count_B), state


def _found(text_S: jax.Array, length: jax.Array, tokens: int, ngram: int) -> tuple[jax.Array, jax.Array]:
    """Up to ``tokens`` tokens, and how many there are."""
    at_S = jnp.arange(len(text_S))
    same_S, matched_S = (at_S < length - 1), jnp.zeros(len(text_S), jnp.int32)
    for back in range(min(ngram, len(text_S))):
        same_S &= (at_S >= back) & (length > back) & (jnp.roll(text_S, back) == text_S[length - 1 - back])
        matched_S += same_S
    end = jnp.argmax(matched_S)  # the first of the longest
    found_G = text_S[jnp.minimum(end + 1 + jnp.arange(tokens), len(text_S) - 1)]
    count = jnp.where(matched_S[end] > 0, jnp.minimum(tokens, length - 1 - end), 0)
    return found_G, count.astype(jnp.int32)
