"""The compiled programs of beam search, plain and in groups.

A prompt has G groups of K beams each, and its beams stand side by side as rows of the cache. Letters of this file: R rows
(B x G x K), C candidates of a group, N tokens that may follow a prompt.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from gpt_jax.sample.engine import chain, reading, writing
from gpt_jax.sample.engine.program import Program, Sizes
from gpt_jax.sample.engine.weights import merge
from gpt_jax.sample.platform import Platform
from gpt_jax.sample.processors import Step
from gpt_jax.sample.searches.opening import text_of

WORST = -1.0e9  # score of what is no continuation; a sum with it loses what it is added to, in float32
DRAWS = 1  # folded into a row's key, so that candidates are drawn apart from what processors draw


@dataclass(frozen=True)
class Shape:
    """What is compiled anew, besides the program of the scores.

    Args:
      beams: K, of a group.
      candidates: C, of a group; more than its beams, as some of them end.
      draws: whether candidates are drawn, and not the best.
    """

    groups: int
    beams: int
    candidates: int
    draws: bool

    @property
    def rows(self) -> int:
        """Of a prompt."""
        return self.groups * self.beams


@functools.cache
def compiled(platform: Platform) -> tuple[Callable, Callable]:
    """The two programs, shared by all decoders."""
    options = platform.compiler_options(several=True)
    begin = jax.jit(_begin, static_argnames=("program", "shape", "sizes"), compiler_options=options)
    advance = jax.jit(_advance, static_argnames=("program", "shape"), donate_argnames="state", compiler_options=options)
    return begin, advance


def _begin(program: Program, shape: Shape, weights: Any, tokens_BP, given: dict, rules: dict, sizes: Sizes) -> dict:
    """Beams that have read their prompts, each once, and chosen their first tokens.

    Args:
      tokens_BP, given: as ``turns._prefill`` takes them.
      rules: "powers_N", what a sum of log-probabilities is divided by after 0, 1, 2, … tokens; "full_ends", whether a
        search ends with as many texts as it has beams; "full_length", whether the best that can still come is judged by
        the longest text; "diversity", of groups.
    """
    model = merge(program.config, weights, program.platform.product)
    cache = reading.empty(program, model, len(tokens_BP), sizes)
    x_BTD, cache = reading.read(program, model, tokens_BP, reading.positions_of(tokens_BP, given["prompt_B"]), cache, 0)
    rows = {**given, "cache": cache, "tokens_BS": text_of(tokens_BP, given["prompt_B"], sizes)}
    rows = jax.tree.map(lambda leaf: jnp.repeat(leaf, shape.rows, axis=0), rows)
    batch, groups = (len(tokens_BP), shape.groups), (len(tokens_BP), shape.groups, shape.beams)
    numbers_R = jnp.tile(jnp.arange(shape.rows), len(tokens_BP))
    keys_R = jax.vmap(lambda seed, n: jax.random.fold_in(jax.random.key(seed), n))(rows.pop("seeds_B"), numbers_R)
    first_K = jnp.where(jnp.arange(shape.beams) == 0, 0.0, WORST)  # the beams of a group begin alike
    state = {
        **rows,
        "keys_B": keys_R,
        "length_B": rows["prompt_B"],
        "logprobs_BN": jnp.zeros((len(numbers_R), sizes.room)),
        "turn": jnp.int32(sizes.width),
        "written": jnp.int32(0),
        "running_BGK": jnp.broadcast_to(first_K, groups),
        "open_BG": jnp.broadcast_to(given["limit_B"][:, None] > 0, batch),
        "hopeful_BG": jnp.ones(batch, bool),
        "stuck_BG": jnp.zeros(batch, bool),
        "rules": rules,
        "ended": {
            "score_BGK": jnp.full(groups, WORST),
            "sum_BGK": jnp.full(groups, WORST),  # before the penalty
            "is_BGK": jnp.zeros(groups, bool),
            "tokens_BGKS": rows["tokens_BS"].reshape(*groups, -1),
            "logprobs_BGKN": jnp.zeros((*groups, sizes.room)),
            "count_BGK": jnp.zeros(groups, jnp.int32),
        },
    }
    logits_BV = writing.scores(program, model, x_BTD[:, -1:])[:, 0]
    return _choose(program, shape, state, jnp.repeat(logits_BV, shape.rows, axis=0))


def _advance(program: Program, shape: Shape, weights: Any, state: dict) -> dict:
    """Turns until no group goes on, or as many as the platform takes at once."""

    def turn(state):
        model = merge(program.config, weights, program.platform.product)
        last_B = state["length_B"] - 1
        tokens_B1 = jnp.take_along_axis(state["tokens_BS"], last_B[:, None], axis=1)
        x_B1D, cache = model.extend(tokens_B1, state["cache"], state["turn"], last_B[:, None])
        after = {**state, "cache": cache, "turn": state["turn"] + 1}
        return _choose(program, shape, after, writing.scores(program, model, x_B1D)[:, 0])

    return program.platform.repeat(turn, state, lambda state: state["open_BG"].any())


def _choose(program: Program, shape: Shape, state: dict, logits_RV) -> dict:
    """One more token for every beam of the groups that go on: candidates, those of them that end, and the new beams."""
    vocab = logits_RV.shape[-1]
    logprobs_RV = jax.nn.log_softmax(logits_RV)
    step = writing.step_of(program, state)
    final_RV = chain.process(program.links, state["knobs"], logprobs_RV, step, not program.platform.specialised)
    groups = (-1, shape.groups, shape.beams)
    final_BGKV = final_RV.reshape(*groups, vocab)
    limit_B, stop_ids_BI = (state[name][:: shape.rows] for name in ("limit_B", "stop_ids_BI"))
    last_B = state["written"] + 1 >= limit_B
    keys_BG = jax.vmap(jax.random.fold_in, (0, None))(step.keys_B, DRAWS).reshape(groups)[:, :, 0]

    taken_BV, chosen = jnp.zeros((len(last_B), vocab)), []
    for group in range(shape.groups):
        less_B1V = state["rules"]["diversity"] * taken_BV[:, None]
        total_BKV = final_BGKV[:, group] - less_B1V + state["running_BGK"][:, group, :, None]
        score_BC, parent_BC, token_BC = _candidates(shape, total_BKV, keys_BG[:, group])
        ends_BC = (token_BC[:, :, None] == stop_ids_BI[:, None]).any(-1) | last_B[:, None]
        running_BK, at_BK = jax.lax.top_k(score_BC + ends_BC * WORST, shape.beams)
        new_BK = jnp.take_along_axis(token_BC, at_BK, axis=1)
        if group + 1 < shape.groups:
            weight_B1 = state["open_BG"][:, group, None].astype(taken_BV.dtype)
            taken_BV = jax.vmap(lambda taken, new, w: taken.at[new].add(w))(taken_BV, new_BK, weight_B1)
        chosen.append((score_BC, parent_BC, token_BC, ends_BC, running_BK, at_BK))
    score, parent, token, ends, running, at = (jnp.stack(each, axis=1) for each in zip(*chosen, strict=True))

    ended = _ended(shape, state, logprobs_RV, (score, parent, token, ends))
    state = {**state, "stuck_BG": state["stuck_BG"] | state["open_BG"] & jnp.isneginf(score[:, :, 0]), "ended": ended}
    state = _grown(
        program, state, (logprobs_RV, final_RV, step), *(jnp.take_along_axis(a, at, 2) for a in (parent, token))
    )
    return _judged({**state, "running_BGK": running, "written": state["written"] + 1}, ends.all(-1))


def _candidates(shape: Shape, total_BKV, keys_B) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The scores of C candidates, the best first, the beams that they continue, and by which tokens, [B, C]."""
    vocab = total_BKV.shape[-1]
    total_BX = total_BKV.reshape(len(total_BKV), -1)
    if shape.draws:
        # The largest of scores with Gumbel noise are draws without replacement from their softmax (Kool et al. 2019).
        noise_BX = jax.vmap(lambda key: jax.random.gumbel(key, total_BX.shape[1:]))(keys_B)
        drawn_BC = jax.lax.top_k(total_BX + noise_BX, shape.candidates)[1]
        score_BC, order_BC = jax.lax.top_k(jnp.take_along_axis(total_BX, drawn_BC, axis=1), shape.candidates)
        index_BC = jnp.take_along_axis(drawn_BC, order_BC, axis=1)
    else:
        score_BC, index_BC = jax.lax.top_k(total_BX, shape.candidates)
    return score_BC, index_BC // vocab, index_BC % vocab


def _ended(shape: Shape, state: dict, logprobs_RV, candidates: tuple) -> dict:
    """The best texts that have ended, of each group that goes on, with those of its candidates that end.

    Only the first K candidates may: the others are there so that enough beams go on.
    """
    sum_BGC, parent_BGC, token_BGC, ends_BGC = candidates
    old, rules, count = state["ended"], state["rules"], state["written"] + 1
    new_BGC = ends_BGC & (jnp.arange(shape.candidates) < shape.beams)
    full_BG1 = old["is_BGK"].all(-1, keepdims=True) & rules["full_ends"]
    score_BGC = sum_BGC / rules["powers_N"][count]
    for excluded in (full_BG1, ~state["hopeful_BG"][:, :, None], ~new_BGC):
        score_BGC = score_BGC + excluded * WORST
    both_BGX = jnp.concatenate([old["score_BGK"], score_BGC], axis=-1)
    score_BGK, at_BGK = jax.lax.top_k(both_BGX, shape.beams)

    def pick(old_BGK, new_BGC):
        return jnp.take_along_axis(jnp.concatenate([old_BGK, new_BGC], axis=2), at_BGK, axis=2)

    # Texts are picked from those that had ended and the beams, and the last token is written over them.
    groups = old["is_BGK"].shape
    own_BGK = jnp.broadcast_to(jnp.arange(shape.beams), groups)
    source_BGK1 = pick(own_BGK, parent_BGC + shape.beams)[..., None]
    is_new_BGK1 = (at_BGK >= shape.beams)[..., None]
    row_BGC = _rows(shape, parent_BGC)
    logprob_BGC = logprobs_RV[row_BGC, token_BGC]

    def text(old_BGKS, beams_RS, last_BGC, place_BGK1):
        beams_BGKS = beams_RS.reshape(*groups, -1)
        found_BGKS = jnp.take_along_axis(jnp.concatenate([old_BGKS, beams_BGKS], axis=2), source_BGK1, axis=2)
        there_BGKS = jnp.arange(beams_RS.shape[-1]) == place_BGK1
        last_BGK1 = pick(jnp.zeros(groups, last_BGC.dtype), last_BGC)[..., None]
        return jnp.where(is_new_BGK1 & there_BGKS, last_BGK1, found_BGKS)

    end_BGK1 = state["length_B"].reshape(*groups, 1)
    new = {
        "score_BGK": score_BGK,
        "sum_BGK": pick(old["sum_BGK"], sum_BGC),
        "is_BGK": pick(old["is_BGK"], new_BGC),
        "tokens_BGKS": text(old["tokens_BGKS"], state["tokens_BS"], token_BGC, end_BGK1),
        "logprobs_BGKN": text(old["logprobs_BGKN"], state["logprobs_BN"], logprob_BGC, state["written"]),
        "count_BGK": pick(old["count_BGK"], jnp.broadcast_to(count, new_BGC.shape)),
    }
    return jax.tree.map(functools.partial(_where_open, state["open_BG"]), new, old)


def _grown(program: Program, state: dict, scored: tuple[jax.Array, jax.Array, Step], parent_BGK, token_BGK) -> dict:
    """The beams that go on, each the continuation of one that was: everything that is kept of a row comes with it."""
    logprobs_RV, final_RV, step = scored
    open_BG = state["open_BG"]
    own_BGK = jnp.broadcast_to(jnp.arange(parent_BGK.shape[-1]), parent_BGK.shape)
    parent_BGK = _where_open(open_BG, parent_BGK, own_BGK)
    parent_R = (parent_BGK + jnp.arange(open_BG.size).reshape(*open_BG.shape, 1) * parent_BGK.shape[-1]).reshape(-1)
    open_R1 = jnp.repeat(open_BG.reshape(-1, 1), parent_BGK.shape[-1], axis=0)
    token_R1 = token_BGK.reshape(-1, 1)

    def pick(leaf):
        return leaf.at[parent_R].get(mode="promise_in_bounds")

    knobs = state["knobs"]
    if any(link.advance for link in program.links):
        knobs, before = jax.tree.map(pick, (knobs, step))
        knobs = chain.advance(program.links, knobs, pick(final_RV), token_R1[:, 0], before)
    logprob_R1 = jnp.take_along_axis(pick(logprobs_RV), token_R1, axis=1)
    here_RS = jnp.arange(state["tokens_BS"].shape[1]) == state["length_B"][:, None]
    here_1N = jnp.arange(state["logprobs_BN"].shape[1]) == state["written"]
    return {
        **state,
        "cache": jax.tree.map(pick, state["cache"]),
        "knobs": knobs,
        "tokens_BS": jnp.where(here_RS & open_R1, token_R1, pick(state["tokens_BS"])),
        "logprobs_BN": jnp.where(here_1N & open_R1, logprob_R1, pick(state["logprobs_BN"])),
        "length_B": state["length_B"] + open_R1[:, 0],
    }


def _judged(state: dict, all_end_BG) -> dict:
    """Which groups go on, after ``state["written"]`` tokens: not those that nothing better can come of, by an estimate."""
    ended, rules = state["ended"], state["rules"]
    limit_BG = state["limit_B"].reshape(state["running_BGK"].shape)[:, :, 0]
    count_BG = jnp.where(rules["full_length"], limit_BG, state["written"])
    possible_BG1 = state["running_BGK"][:, :, :1] / rules["powers_N"][count_BG][:, :, None]
    worst_BGK = jnp.where(ended["is_BGK"], ended["score_BGK"].min(-1, keepdims=True), WORST)
    hopeful_BG = state["hopeful_BG"] & (possible_BG1 > worst_BGK).any(-1)
    full_BG = ended["is_BGK"].all(-1) & rules["full_ends"]
    open_BG = state["open_BG"] & hopeful_BG & ~full_BG & ~all_end_BG
    return {**state, "hopeful_BG": hopeful_BG, "open_BG": open_BG}


def _rows(shape: Shape, beam_BGX) -> jax.Array:
    """The rows of beams, by their numbers in their groups."""
    first_BG1 = jnp.arange(beam_BGX.shape[0] * shape.groups).reshape(-1, shape.groups, 1) * shape.beams
    return first_BG1 + beam_BGX


def _where_open(open_BG, new, old):
    return jnp.where(open_BG.reshape(*open_BG.shape, *[1] * (new.ndim - 2)), new, old)
