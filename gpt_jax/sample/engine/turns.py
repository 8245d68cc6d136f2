"""The compiled programs of decoding: read prompts, write tokens, replace rows that have ended.

All rows write to the cache at the same turn. Prompts are padded on the left, so that their last tokens meet; a row's
positions start at 0 at its first token, and padding is never attended to.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from gpt_jax.mesh import decoding
from gpt_jax.sample.engine import context, guidance
from gpt_jax.sample.engine.program import Program, Sizes
from gpt_jax.sample.engine.reading import empty, positions_of, read, restarted
from gpt_jax.sample.engine.weights import merge
from gpt_jax.sample.engine.writing import notes_of, write
from gpt_jax.sample.platform import Platform

SEEN = ("tokens_BS", "prompt_B", "count_B", "open_B", "stuck_B", "notes")  # what the host reads after a call
SHARED = ("turn",)  # what is not a row's own
ONCE = ("seeds_B", "negative_BP")  # what is not looked at again


@functools.cache
def compiled(platform: Platform, several: bool) -> tuple[Callable, Callable, Callable]:
    """The three programs, for one row or several, shared by all decoders; they compile once for each ``Program`` and each
    bucket of lengths."""
    options = platform.compiler_options(several)
    static = ("program", "sizes")
    prefill = jax.jit(_prefill, static_argnames=static, compiler_options=options)
    advance = jax.jit(_advance, static_argnames="program", donate_argnames="state", compiler_options=options)
    replace = jax.jit(_replace, static_argnames=static, donate_argnames="state", compiler_options=options)
    return prefill, advance, replace


class Method(Protocol):
    """How a batch is written: a token a turn (``OneByOne``), or several at once (``gpt_jax.sample.speculative``)."""

    def weights(self, prepared: Any) -> Any:
        """What the programs read, from the model's ``gpt_jax.sample.engine.weights.prepare``."""
        ...

    def check(self, prompts: Sequence[Sequence[int]], limits: Sequence[int]) -> None:
        """Raises UserError where prompts cannot be continued by so many tokens, for another reason than the model's."""
        ...

    def programs(self, program: Program, several: bool) -> tuple[Callable, Callable, Callable]:
        """Reads prompts, writes tokens, replaces rows: as ``compiled`` gives them, for one program."""
        ...


@dataclass(frozen=True)
class OneByOne:
    """A token of each row at every turn."""

    def weights(self, prepared: Any) -> Any:
        return prepared

    def check(self, prompts: Sequence[Sequence[int]], limits: Sequence[int]) -> None:
        """All that the model can continue."""

    def programs(self, program: Program, several: bool) -> tuple[Callable, Callable, Callable]:
        prefill, advance, replace = compiled(program.platform, several)
        return tuple(functools.partial(step, program) for step in (prefill, advance, replace))  # type: ignore[return-value]


def _prefill(program: Program, weights: Any, tokens_BP, rows: dict, sizes: Sizes) -> tuple[dict, dict]:
    """Reads the prompts and draws the first token of each row.

    Args:
      tokens_BP: prompts, padded on the left.
      rows: see ``gpt_jax.sample.rows.Asked``.
    """
    state = {"turn": jnp.int32(sizes.width), **begin(program, weights, tokens_BP, rows, sizes, 0)}
    return _given(program, state)


def _replace(
    program: Program, weights: Any, state: dict, tokens_JP, rows: dict, at_J, sizes: Sizes
) -> tuple[dict, dict]:
    """Puts new prompts into the rows ``at_J``; those beyond the last row are left out."""
    new = begin(program, weights, tokens_JP, rows, sizes, state["turn"] - sizes.width)
    own = {name: value for name, value in state.items() if name not in SHARED}
    rows_J = guidance.places(at_J, len(state["length_B"])) if program.guided else at_J
    cache = replaced(own.pop("cache"), new.pop("cache"), rows_J)
    return _given(program, {**state, **replaced(own, new, at_J), "cache": cache})


def replaced(rows: dict, new: dict, at_J) -> dict:
    """The state of rows, those ``at_J`` being ``new``; those beyond the last are left out."""
    return jax.tree.map(lambda old, new: old.at[at_J].set(new.astype(old.dtype), mode="drop"), rows, new)


def _advance(program: Program, weights: Any, state: dict, limit, least) -> tuple[dict, dict]:
    """Writes a token a row and turn, until no more than ``least`` rows go on that have fewer than ``limit`` new tokens, or
    as many turns as the platform takes at once."""

    def turn(state):
        model = merge(program.config, weights, program.platform.product)
        state = restarted(program, model, state) if program.span.restart else state
        last_B = state["length_B"] - 1
        tokens_B1 = jnp.take_along_axis(state["tokens_BS"], last_B[:, None], axis=1)
        positions_B1 = (last_B - state["first_B"])[:, None]
        if program.guided:
            tokens_B1, positions_B1 = guidance.turn(tokens_B1, positions_B1, state)
        x_B1D, cache = model.extend(tokens_B1, state["cache"], state["turn"], positions_B1, program.span.window)
        written = write(program, model, {**state, "cache": cache, "turn": state["turn"] + 1}, x_B1D)
        return _placed(program, written)

    state = program.platform.repeat(turn, state, functools.partial(goes_on, limit=limit, least=least))
    return _given(program, state)


def goes_on(state: dict, limit, least) -> jax.Array:
    """Whether more than ``least`` rows go on that have fewer than ``limit`` new tokens."""
    return (state["open_B"] & (state["count_B"] < limit)).sum() > least


def begin(program: Program, weights: Any, tokens_BP, rows: dict, sizes: Sizes, start, ahead: int = 0) -> dict:
    """Rows that have read their prompts, from turn ``start`` on, and drawn a token.

    Args:
      ahead: tokens beyond the text that the cache has room for, to be read at once with the last one.
    """
    batch, width = tokens_BP.shape
    model = merge(program.config, weights, program.platform.product)
    place_P, lengths_B = jnp.arange(width), rows["prompt_B"]
    read_BP, read_B = guidance.prompts(tokens_BP, rows) if program.guided else (tokens_BP, lengths_B)
    first_B = context.first_kept(lengths_B, program.span.restart) if program.span.restart else jnp.zeros_like(lengths_B)
    skipped_B = jnp.zeros_like(read_B) if program.guided else first_B
    cache = empty(program, model, len(read_BP), sizes, ahead)
    x_BPD, cache = read(program, model, read_BP, positions_of(read_BP, read_B, skipped_B), cache, start)
    shifted_BS = jax.vmap(jnp.roll)(tokens_BP, lengths_B - width)
    text_BS = jnp.pad(jnp.where(place_P < lengths_B[:, None], shifted_BS, 0), ((0, 0), (0, sizes.room)))
    blank = jax.eval_shape(functools.partial(notes_of, program), *[jnp.zeros((batch, program.config.vocab))] * 2)
    state = {
        **{name: value for name, value in rows.items() if name not in ONCE},
        "keys_B": jax.vmap(jax.random.key)(rows["seeds_B"]),
        "cache": cache,
        "tokens_BS": text_BS,
        "length_B": lengths_B,
        "first_B": first_B,
        "notes": {name: jnp.zeros((batch, sizes.room, *of.shape[1:]), of.dtype) for name, of in blank.items()},
        "count_B": jnp.zeros(batch, jnp.int32),
        "open_B": rows["limit_B"] > 0,
        "stuck_B": jnp.zeros(batch, bool),
    }
    return write(program, model, _placed(program, state), x_BPD[:, -1:])


def _placed(program: Program, state: dict) -> dict:
    """The same, its rows where the mesh has them."""
    rows = {name: value for name, value in state.items() if name != "cache"}
    cache = decoding.place_cache(program.mesh, state["cache"])
    return {**decoding.place_rows(program.mesh, rows), "cache": cache}


def _given(program: Program, state: dict) -> tuple[dict, dict]:
    """What a program returns: the state, and of it what the host reads."""
    return _placed(program, state), decoding.everywhere(program.mesh, {name: state[name] for name in SEEN})
