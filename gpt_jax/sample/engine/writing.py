"""From hidden states to the next token of each row, written down with its notes."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from gpt_jax.sample.engine import chain, guidance, notes
from gpt_jax.sample.engine.draw import draw
from gpt_jax.sample.engine.program import Program
from gpt_jax.sample.processors import Step


def scores(program: Program, model: nnx.Module, x_BTD) -> jax.Array:
    """The model's own logits, float32 [B, T, V], of last hidden states."""
    projection = model.projection()
    product_BTV = program.platform.product(x_BTD, projection.w_DV.T.astype(x_BTD.dtype))
    return projection.finish(product_BTV.astype(jnp.float32))


def step_of(program: Program, state: dict) -> Step:
    """What processors see of rows."""
    keys_B = jax.vmap(jax.random.fold_in)(state["keys_B"], state["length_B"])
    given = {name: state[name] for name in ("tokens_BS", "length_B", "prompt_B", "limit_B", "stop_ids_BI")}
    return Step(**given, keys_B=keys_B, bits=program.platform.bits)


def processed(program: Program, state: dict, logits_BV, step: Step) -> jax.Array:
    """The scores after the processors, float32 [B, V]."""
    return chain.process(program.links, state["knobs"], logits_BV, step, not program.platform.specialised)


def write(program: Program, model: nnx.Module, state: dict, x_B1D) -> dict:
    """Draws a token a row from the last hidden states and writes it down, in rows that go on."""
    logits_BV = given_BV = scores(program, model, x_B1D)[:, 0]
    if program.guided:
        logits_BV, given_BV = guidance.mixed(logits_BV, state["scale_B"])
    step = step_of(program, state)
    final_BV, tokens_B = chosen(program, state, given_BV, step)
    return record(program, state, step, (logits_BV, final_BV), tokens_B)


def record(program: Program, state: dict, step: Step, scores: tuple, tokens_B, on_B: Any = True) -> dict:
    """The state with ``tokens_B`` written, in those rows of ``on_B`` that go on.

    Args:
      scores: the model's own and the final ones, of which the tokens were chosen, [B, V] each.
    """
    logits_BV, final_BV = scores
    chosen_B = jnp.take_along_axis(final_BV, tokens_B[:, None], axis=1)[:, 0]
    stuck_B = state["open_B"] & on_B & ~(chosen_B > -jnp.inf)  # where no token is left, what is drawn is none
    going_B = state["open_B"] & on_B & ~stuck_B
    # The log-probability of any token says why there is none: it is nan where the model's own scores are the reason.
    new = _taken(program, state, logits_BV, final_BV, jnp.where(stuck_B, 0, tokens_B))
    room = next(iter(state["notes"].values())).shape[1]
    at_BR = (jnp.arange(room) == state["count_B"][:, None]) & (state["open_B"] & on_B)[:, None]
    count_B = state["count_B"] + going_B
    stopped_B = (tokens_B[:, None] == state["stop_ids_BI"]).any(1) | (count_B >= state["limit_B"])
    knobs = chain.advance(program.links, state["knobs"], final_BV, tokens_B, step)
    after_B = chain.go_on(program.links, knobs, step, going_B & ~stopped_B)
    return {
        **state,
        "tokens_BS": jnp.where(_at(step, state, going_B), tokens_B[:, None], state["tokens_BS"]),
        "length_B": state["length_B"] + going_B,
        "knobs": knobs,
        "notes": {name: _noted(state["notes"][name], value, at_BR) for name, value in new.items()},
        "count_B": count_B,
        "open_B": state["open_B"] & ~stuck_B & (after_B | ~going_B),
        "stuck_B": state["stuck_B"] | stuck_B,
    }


def _at(step: Step, state: dict, open_B) -> jax.Array:
    """Where the next token of each row goes that goes on, bool [B, S]."""
    return (jnp.arange(state["tokens_BS"].shape[1]) == step.length_B[:, None]) & open_B[:, None]


def _noted(old, new, at_BR):
    spread = at_BR.reshape(*at_BR.shape, *[1] * (old.ndim - 2))
    return jnp.where(spread, new[:, None], old)


def notes_of(program: Program, logits_BV, final_BV, tokens_B=None) -> dict:
    tokens_B = jnp.zeros(len(logits_BV), jnp.int32) if tokens_B is None else tokens_B
    return notes.take(program.notes, logits_BV, final_BV, tokens_B, program.top)


def _taken(program: Program, state: dict, logits_BV, final_BV, tokens_B) -> dict:
    """The notes of a turn; where no row asks for them, zeros stand for those that take long."""
    if not program.asked:
        return notes_of(program, logits_BV, final_BV, tokens_B)
    rest = dataclasses.replace(program, notes=tuple(name for name in program.notes if name != notes.LOGPROBS))
    always = dataclasses.replace(program, notes=(notes.LOGPROBS,))

    def found():
        return notes_of(rest, logits_BV, final_BV, tokens_B)

    def nothing():
        return jax.tree.map(lambda of: jnp.zeros(of.shape, of.dtype), jax.eval_shape(found))

    given = jax.lax.cond(state["asked_B"].any(), found, nothing)
    return notes_of(always, logits_BV, final_BV, tokens_B) | given


def chosen(program: Program, state: dict, logits_BV, step: Step) -> tuple[jax.Array, jax.Array]:
    """The scores after the processors, and of them the most likely token of greedy rows (the first, among equals), a drawn
    one of the others, int32 [B]. A program that does not specialise skips all of it where every row takes the model's own
    likeliest token: each condition takes as long as several sums."""
    greedy_B = state["greedy_B"]

    def likeliest(scores_BV):
        return jnp.argmax(scores_BV, axis=-1).astype(jnp.int32)

    def drawn(scores_BV):
        return jnp.where(greedy_B, likeliest(scores_BV), draw(scores_BV, step.keys_B))

    def taken(logits_BV):
        final_BV = processed(program, state, logits_BV, step)
        if program.draws is None:
            return final_BV, jax.lax.cond(greedy_B.all(), likeliest, drawn, final_BV)
        return final_BV, (drawn if program.draws else likeliest)(final_BV)

    if program.platform.specialised:
        return taken(logits_BV)
    asked = jnp.stack([~greedy_B, *(values["on_B"] for values in state["knobs"])]).any()
    return jax.lax.cond(asked, taken, lambda logits_BV: (logits_BV, likeliest(logits_BV)), logits_BV)
