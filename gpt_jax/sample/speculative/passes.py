"""The compiled programs of speculative decoding: as those of ``gpt_jax.sample.engine.turns``, with passes in place of turns.

A pass proposes G tokens a row and reads them, and the row's last token, at once; each row keeps as many as are accepted.
Every row writes to the cache from a turn of its own on. What it did not keep is left there: its positions are beyond all
later queries until the next pass, which is as long, writes over it.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from gpt_jax.sample.engine import turns, writing
from gpt_jax.sample.engine.draw import draw
from gpt_jax.sample.engine.program import Program, Sizes
from gpt_jax.sample.engine.weights import merge
from gpt_jax.sample.platform import Platform
from gpt_jax.sample.speculative.acceptance import decided, kept, residual, shares
from gpt_jax.sample.speculative.proposals import Proposal, Proposer, last, positions

KEPT, INSTEAD = 0x6B65, 0x696E  # folded into the keys of the test and of what is drawn after the accepted tokens
FIGURES = ("passes", "written", "proposed", "tested", "accepted")  # the fields of ``Acceptance``


@dataclass(frozen=True)
class Speculation:
    """What is compiled anew when it changes, besides sizes."""

    program: Program
    proposer: Proposer


@functools.cache
def compiled(platform: Platform, several: bool) -> tuple[Callable, Callable, Callable]:
    """See ``gpt_jax.sample.engine.turns.compiled``."""
    options = platform.compiler_options(several)
    static = ("spec", "sizes")
    prefill = jax.jit(_prefill, static_argnames=static, compiler_options=options)
    advance = jax.jit(_advance, static_argnames="spec", donate_argnames="state", compiler_options=options)
    replace = jax.jit(_replace, static_argnames=static, donate_argnames="state", compiler_options=options)
    return prefill, advance, replace


def _prefill(spec: Speculation, weights: Any, tokens_BP, rows: dict, sizes: Sizes) -> tuple[dict, dict]:
    state = _begin(spec, weights, tokens_BP, rows, sizes)
    return state, _seen(state)


def _replace(
    spec: Speculation, weights: Any, state: dict, tokens_JP, rows: dict, at_J, sizes: Sizes
) -> tuple[dict, dict]:
    state = turns.replaced(state, _begin(spec, weights, tokens_JP, rows, sizes), at_J)
    return state, _seen(state)


def _advance(spec: Speculation, weights: Any, state: dict, limit, least) -> tuple[dict, dict]:
    going = functools.partial(turns.goes_on, limit=limit, least=least)
    state = spec.program.platform.repeat(functools.partial(_pass, spec, weights), state, going)
    return state, _seen(state)


def _begin(spec: Speculation, weights: Any, tokens_BP, rows: dict, sizes: Sizes) -> dict:
    batch, width = tokens_BP.shape
    proposer = spec.proposer
    state = turns.begin(spec.program, weights["model"], tokens_BP, rows, sizes, 0, proposer.tokens)
    return {
        **state,
        "turn_B": jnp.full(batch, width, jnp.int32),  # of the last token, which the cache does not have yet
        "draft": proposer.begin(spec.program, weights["draft"], tokens_BP, rows["prompt_B"], sizes),
        "figures": {name: jnp.zeros(batch, jnp.int32) for name in FIGURES},
    }


def _pass(spec: Speculation, weights: Any, state: dict) -> dict:
    """Some tokens in each row that goes on: those that were accepted, and one more."""
    program, before = spec.program, state
    proposal, state = spec.proposer.propose(program, weights, state)
    room_B = jnp.where(state["open_B"], state["limit_B"] - state["count_B"], 0)
    count_B = jnp.minimum(proposal.count_B, room_B)
    logits_GBV, cache = _read(spec, weights, state, proposal, count_B)
    state, accepted_B, tested_B = _judged(program, {**state, "cache": cache}, proposal, count_B, logits_GBV)
    written_B = state["count_B"] - before["count_B"]
    new = (before["open_B"], written_B, count_B, tested_B, accepted_B)
    figures = {name: state["figures"][name] + value for name, value in zip(FIGURES, new, strict=True)}
    return {**state, "turn_B": state["turn_B"] + written_B, "figures": figures}


def _read(spec: Speculation, weights: Any, state: dict, proposal: Proposal, count_B) -> tuple[jax.Array, dict]:
    """The model's logits after the last token and after each proposed one, [G + 1, B, V], and the cache with all."""
    model: Any = merge(spec.program.config, weights["model"], spec.program.platform.product)
    last_B1, first_B = last(state, 1)
    tokens_BT = jnp.concatenate([last_B1, proposal.tokens_BG], axis=1)
    length = tokens_BT.shape[1]
    positions_BT = jnp.where(jnp.arange(length) <= count_B[:, None], positions(state, first_B, length), -1)
    x_BTD, cache = model.extend(tokens_BT, state["cache"], state["turn_B"], positions_BT)
    return writing.scores(spec.program, model, x_BTD).swapaxes(0, 1), cache


def _judged(
    program: Program, state: dict, proposal: Proposal, count_B, logits_GBV
) -> tuple[dict, jax.Array, jax.Array]:
    """Writes the proposed tokens up to the first that is not accepted, and one in its place; or one after all of them.

    Returns: the state, how many were accepted and how many tested, of each row
    """
    most = len(proposal.q_GBV)

    def judge(carry):
        number, state, going_B, accepted_B, tested_B = carry
        step = writing.step_of(program, state)
        final_BV = writing.processed(program, state, logits_GBV[number], step)
        at = jnp.minimum(number, most - 1)
        token_B, there_B = proposal.tokens_BG[:, at], number < count_B
        p_BV = shares(decided(final_BV, state["greedy_B"]))
        q_BV = jnp.where(there_B[:, None], proposal.q_GBV[at], 0)
        test_B = jax.vmap(lambda key: jax.random.uniform(jax.random.fold_in(key, KEPT)))(step.keys_B)
        same_B = there_B & kept(p_BV, q_BV, token_B, test_B)
        instead_B = draw(residual(p_BV, q_BV), jax.vmap(jax.random.fold_in, (0, None))(step.keys_B, INSTEAD))
        chosen_B = jnp.where(same_B, token_B, instead_B)
        after = writing.record(program, state, step, (logits_GBV[number], final_BV), chosen_B, going_B)
        after["knobs"] = jax.tree.map(functools.partial(_where, going_B), after["knobs"], state["knobs"])
        tested_B, accepted_B = tested_B + (going_B & there_B), accepted_B + (going_B & same_B)
        return number + 1, after, going_B & same_B & after["open_B"], accepted_B, tested_B

    none_B = jnp.zeros(len(count_B), jnp.int32)
    carry = (jnp.int32(0), state, state["open_B"], none_B, none_B)
    if program.platform.turns:  # a loop that ends by its data makes an accelerator wait
        carry = jax.lax.fori_loop(0, most + 1, lambda _, carry: judge(carry), carry)
    else:
        carry = jax.lax.while_loop(lambda carry: (carry[0] <= most) & carry[2].any(), judge, carry)
    _, state, _, accepted_B, tested_B = carry
    return state, accepted_B, tested_B


def _where(on_B, new, old):
    return jnp.where(on_B.reshape(-1, *[1] * (new.ndim - 1)), new, old)


def _seen(state: dict) -> dict:
    return {name: state[name] for name in (*turns.SEEN, "figures")}
