"""Contrastive search (Su et al. 2022, equation 5)."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gpt_jax.sample.calls import not_finite, program_of
from gpt_jax.sample.decode import Decoder
from gpt_jax.sample.engine import chain, writing
from gpt_jax.sample.engine.program import Program, Sizes
from gpt_jax.sample.engine.weights import merge
from gpt_jax.sample.platform import Platform
from gpt_jax.sample.rows import Asked
from gpt_jax.sample.searches import Found, check_processors, mean, no_token_left
from gpt_jax.sample.searches.opening import read_whole, text_of


@dataclass(frozen=True)
class Contrastive:
    """Of the ``candidates`` most likely tokens, the one that is likely and unlike what there is, turn by turn.

    A candidate's score is (1 - alpha) p - alpha s: p is its probability after processors, and s the largest cosine
    similarity of its hidden state, from which logits are read, with those of all tokens before it. A text's score is the
    mean of its tokens'.
    """

    alpha: float
    candidates: int

    def run(self, decoder: Decoder, asked: Asked) -> list[list[Found]]:
        check_processors(asked)
        if not max(asked.limits, default=0):
            return [[Found([], [], 0.0)] for _ in range(len(asked))]
        sizes = asked.sizes(decoder.platform)
        program, knobs = program_of(decoder.config, decoder.platform, asked.samplings)
        given = asked.rows(range(len(asked)), knobs, len(asked), sizes.width)
        begin, advance = compiled(decoder.platform)
        count = min(self.candidates, decoder.config.vocab)
        state = begin(program, count, decoder.weights, *given, np.float32(self.alpha), sizes)
        while np.asarray(state["open_B"]).any():
            state = advance(program, count, decoder.weights, state)
        seen = jax.device_get(
            {name: state[name] for name in ("tokens_BS", "count_B", "stuck_B", "logprobs_BN", "scores_BN")}
        )
        found = []
        for number, prompt in enumerate(asked.prompts):
            if seen["stuck_B"][number]:
                raise no_token_left(asked, number)
            count = seen["count_B"][number]
            tokens = seen["tokens_BS"][number, len(prompt) : len(prompt) + count].tolist()
            logprobs, scores = (seen[name][number, :count].tolist() for name in ("logprobs_BN", "scores_BN"))
            if np.isnan(logprobs).any():
                raise not_finite(f"prompt {number + 1} of {len(asked)}")
            found.append([Found(tokens, logprobs, mean(scores), scores)])
        return found


@functools.cache
def compiled(platform: Platform) -> tuple[Callable, Callable]:
    """The two programs, shared by all decoders."""
    options = platform.compiler_options(several=True)
    static = ("program", "candidates", "sizes")
    begin = jax.jit(_begin, static_argnames=static, compiler_options=options)
    advance = jax.jit(_advance, static_argnames=static[:2], donate_argnames="state", compiler_options=options)
    return begin, advance


def _begin(
    program: Program, candidates: int, weights: Any, tokens_BP, given: dict, alpha: jax.Array, sizes: Sizes
) -> dict:
    """Prompts that are read, with the logits of what follows. A row of the cache is there for every candidate."""
    model = merge(program.config, weights, program.platform.product)
    x_BPD, cache = read_whole(model, tokens_BP, given["prompt_B"], sizes)
    batch = len(tokens_BP)
    return {
        **{name: value for name, value in given.items() if name != "seeds_B"},
        "keys_B": jax.vmap(jax.random.key)(given["seeds_B"]),
        "cache": jax.tree.map(lambda leaf: jnp.repeat(leaf, candidates, axis=0), cache),
        "tokens_BS": text_of(tokens_BP, given["prompt_B"], sizes),
        "unit_BSD": text_of(_unit(x_BPD), given["prompt_B"], sizes),
        "logits_BV": writing.scores(program, model, x_BPD[:, -1:])[:, 0],
        "logprobs_BN": jnp.zeros((batch, sizes.room)),
        "length_B": given["prompt_B"],
        "count_B": jnp.zeros(batch, jnp.int32),
        "scores_BN": jnp.zeros((batch, sizes.room)),
        "open_B": given["limit_B"] > 0,
        "stuck_B": jnp.zeros(batch, bool),
        "turn": jnp.int32(sizes.width),
        "alpha": alpha,
    }


def _advance(program: Program, candidates: int, weights: Any, state: dict) -> dict:
    """Writes a token a row and turn, until no row goes on, or as many turns as the platform takes at once."""
    turn = functools.partial(_turn, program, candidates, weights)
    return program.platform.repeat(turn, state, lambda state: state["open_B"].any())


def _turn(program: Program, candidates: int, weights: Any, state: dict) -> dict:
    model = merge(program.config, weights, program.platform.product)
    logits_BV, step = state["logits_BV"], writing.step_of(program, state)
    final_BV = chain.process(program.links, state["knobs"], logits_BV, step, not program.platform.specialised)
    share_BC, token_BC = jax.lax.top_k(jax.nn.softmax(final_BV), candidates)
    position_R1 = jnp.repeat(state["length_B"][:, None], candidates, axis=0)
    x_R1D, cache = model.extend(token_BC.reshape(-1, 1), state["cache"], state["turn"], position_R1)

    x_BCD = x_R1D.reshape(*token_BC.shape, -1)
    unit_BCD = _unit(x_BCD)
    likeness_BCS = jnp.einsum("BCD,BSD->BCS", unit_BCD, state["unit_BSD"], precision="highest")
    likeness_BC = jnp.where(step.real_BS[:, None], likeness_BCS, -1.0).max(-1)
    score_BC = (1 - state["alpha"]) * share_BC - state["alpha"] * likeness_BC
    chosen_B = jnp.argmax(jnp.where(share_BC > 0, score_BC, -jnp.inf), axis=1)

    def pick(each_BCX):
        return jax.vmap(lambda each, at: each[at])(each_BCX, chosen_B)

    token_B, score_B = pick(token_BC), pick(score_BC)
    stuck_B = state["open_B"] & jnp.isneginf(final_BV.max(-1))
    open_B = state["open_B"] & ~stuck_B
    here_BS = (jnp.arange(state["tokens_BS"].shape[1]) == state["length_B"][:, None]) & open_B[:, None]
    here_BN = (jnp.arange(state["logprobs_BN"].shape[1]) == state["count_B"][:, None]) & open_B[:, None]
    logprob_B1 = jnp.take_along_axis(jax.nn.log_softmax(logits_BV), token_B[:, None], axis=1)
    row_R = jnp.repeat(jnp.arange(len(token_B)) * candidates + chosen_B, candidates)
    count_B = state["count_B"] + open_B
    ended_B = (token_B[:, None] == state["stop_ids_BI"]).any(1) | (count_B >= state["limit_B"])
    return {
        **state,
        "cache": jax.tree.map(lambda leaf: leaf.at[row_R].get(mode="promise_in_bounds"), cache),
        "knobs": chain.advance(program.links, state["knobs"], final_BV, token_B, step),
        "tokens_BS": jnp.where(here_BS, token_B[:, None], state["tokens_BS"]),
        "unit_BSD": jnp.where(here_BS[:, :, None], pick(unit_BCD)[:, None], state["unit_BSD"]),
        "logits_BV": writing.scores(program, model, pick(x_BCD)[:, None])[:, 0],
        "logprobs_BN": jnp.where(here_BN, logprob_B1, state["logprobs_BN"]),
        "length_B": state["length_B"] + open_B,
        "count_B": count_B,
        "scores_BN": jnp.where(here_BN, score_B[:, None], state["scores_BN"]),
        "open_B": open_B & ~ended_B,
        "stuck_B": state["stuck_B"] | stuck_B,
        "turn": state["turn"] + 1,
    }


def _unit(x_XD):
    """Vectors of length 1."""
    x_XD = x_XD.astype(jnp.float32)
    return x_XD / jnp.maximum(jnp.linalg.norm(x_XD, axis=-1, keepdims=True), jnp.finfo(jnp.float32).tiny)
