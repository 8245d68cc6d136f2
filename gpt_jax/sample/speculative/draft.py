"""Proposals by a model that is faster: another one, or the first layers of the model itself."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from gpt_jax.config import ModelConfig
from gpt_jax.model.gpt import GPT
from gpt_jax.sample.engine import chain
from gpt_jax.sample.engine.draw import draw
from gpt_jax.sample.engine.program import Program, Sizes
from gpt_jax.sample.engine.reading import empty, positions_of, read
from gpt_jax.sample.engine.weights import merge
from gpt_jax.sample.engine.writing import processed, scores, step_of
from gpt_jax.sample.speculative.acceptance import decided, shares
from gpt_jax.sample.speculative.proposals import Proposal, last, positions

OWN = 0x6472  # folded into the keys of what is drafted
Extend = Callable[[jax.Array, jax.Array, jax.Array, Any], tuple[jax.Array, Any]]


@dataclass(frozen=True)
class AnotherModel:
    """A model of the same vocabulary, with a cache of its own.

    Args:
      tokens: proposed at a time.
      config: unrolled, as ``Decoder.config`` is.
    """

    tokens: int
    config: ModelConfig

    def begin(self, program: Program, weights: Any, tokens_BP, lengths_B, sizes: Sizes) -> dict:
        model: Any = merge(self.config, weights, program.platform.product)
        cache = empty(program, model, len(tokens_BP), sizes, self.tokens)
        return read(program, model, tokens_BP, positions_of(tokens_BP, lengths_B), cache, 0)[1]

    def propose(self, program: Program, weights: Any, state: dict) -> tuple[Proposal, dict]:
        """The first step reads two tokens, as the cache lacks the last but one where a whole proposal was accepted."""
        model: Any = merge(self.config, weights["draft"], program.platform.product)

        def extend(tokens_BT, start_B, positions_BT, cache):
            x_BTD, cache = model.extend(tokens_BT, cache, start_B, positions_BT)
            return scores(program, model, x_BTD[:, -1:])[:, 0], cache

        proposal, cache = _drafted(program, state, self.tokens, extend, state["draft"], first=2)
        return proposal, {**state, "draft": cache}

    @property
    def context(self) -> int:
        return self.config.context


@dataclass(frozen=True)
class FirstLayers:
    """The model's own first layers, then its last norm and its readout. They share its cache.

    Args:
      tokens: proposed at a time.
      layers: how many.
    """

    tokens: int
    layers: int
    context: None = None

    def begin(self, program: Program, weights: Any, tokens_BP, lengths_B, sizes: Sizes) -> dict:
        return {}

    def propose(self, program: Program, weights: Any, state: dict) -> tuple[Proposal, dict]:
        model: Any = merge(program.config, weights["model"], program.platform.product)
        early = _cut(model, self.layers)

        def extend(tokens_BT, start_B, positions_BT, cache):
            x_BTD, new = early.extend(tokens_BT, cache, start_B, positions_BT)
            return scores(program, early, x_BTD)[:, 0], {**new, "blocks": {**cache["blocks"], **new["blocks"]}}

        proposal, cache = _drafted(program, state, self.tokens, extend, state["cache"], first=1)
        return proposal, {**state, "cache": cache}


def _cut(model: GPT, layers: int) -> GPT:
    model.config = dataclasses.replace(model.config, layers=layers)
    return model


def _drafted(
    program: Program, state: dict, tokens: int, extend: Extend, cache: Any, first: int
) -> tuple[Proposal, Any]:
    """Tokens that a model draws one after another, by the rows' processors.

    Args:
      extend: (tokens_BT, start_B, positions_BT, cache) -> the logits after the last of them, and the cache.
      first: how many tokens of the text the first step reads.
    """
    batch, vocab = len(state["length_B"]), program.config.vocab

    def step(number, carry, count=1):
        row, turn_B, cache, q_GBV = carry
        tokens_BT, first_B = last(row, count)
        logits_BV, cache = extend(tokens_BT, turn_B - (count - 1), positions(row, first_B, count), cache)
        at = step_of(program, row)
        final_BV = processed(program, row, logits_BV, at)
        shown_BV = decided(final_BV, row["greedy_B"])
        drawn_B = draw(shown_BV, jax.vmap(jax.random.fold_in, (0, None))(at.keys_B, OWN))
        here_BS = jnp.arange(row["tokens_BS"].shape[1]) == row["length_B"][:, None]
        row = {
            **row,
            "tokens_BS": jnp.where(here_BS, drawn_B[:, None], row["tokens_BS"]),
            "length_B": row["length_B"] + 1,
            "knobs": chain.advance(program.links, row["knobs"], final_BV, drawn_B, at),
        }
        return row, turn_B + 1, cache, (q_GBV[0].at[number].set(shares(shown_BV)), q_GBV[1].at[number].set(drawn_B))

    seen = ("tokens_BS", "length_B", "prompt_B", "limit_B", "stop_ids_BI", "keys_B", "greedy_B", "knobs")
    none = jnp.zeros((tokens, batch, vocab)), jnp.zeros((tokens, batch), jnp.int32)
    carry = ({name: state[name] for name in seen}, state["turn_B"], cache, none)
    *_, cache, (q_GBV, tokens_GB) = jax.lax.fori_loop(1, tokens, step, step(0, carry, first))
    left_GB = jnp.cumprod(q_GBV.max(-1) > 0, axis=0)
    return Proposal(tokens_GB.T, q_GBV, left_GB.sum(0, dtype=jnp.int32)), cache
