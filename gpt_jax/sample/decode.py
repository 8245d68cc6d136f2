"""Cached decoding: one pass over the prompts, then one compiled loop that writes a token a row per turn.

Prompts of unequal length are padded on the left, so that all rows write to the same cache slot; each row's positions
start at 0 at its first real token and padding is never attended to.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from gpt_jax.config import ModelConfig
from gpt_jax.errors import UserError
from gpt_jax.limits import folded
from gpt_jax.model import attend, layout
from gpt_jax.sample import platform as platforms
from gpt_jax.sample import processors
from gpt_jax.sample.platform import Platform, bucket
from gpt_jax.sample.weights import merge, prepare

WRITTEN = ("tokens_BR", "logprobs_BR", "count_B", "open_B")  # what the host reads after a call


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn (see ``processors.choose``). Values may differ by row: a scalar or a sequence of B.

    Each of ``stop_ids`` ends a row after it has been written.
    """

    temperature: float | Sequence[float] = 1.0
    top_k: int | Sequence[int] = 0
    top_p: float | Sequence[float] = 1.0
    stop_ids: tuple[int, ...] = ()


@dataclass(frozen=True)
class Generated:
    """What was written after each prompt; a stop id is the last token of its row.

    ``logprobs`` are natural logarithms of the model's own probabilities, before temperature, top-k and top-p.
    """

    tokens: list[list[int]]
    logprobs: list[list[float]]


def generate(
    config: ModelConfig,
    params: dict,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int | Sequence[int],
    sampling: Sampling,
    seeds: Sequence[int],
) -> Generated:
    """``Decoder(config, params).generate(…)``, for a single call."""
    return Decoder(config, params).generate(prompts, max_new_tokens=max_new_tokens, sampling=sampling, seeds=seeds)


@dataclass(frozen=True)
class Program:
    """What is compiled anew when it changes, besides sizes.

    Args:
      steps: of sampling, as in ``processors.choose``.
    """

    config: ModelConfig
    platform: Platform
    steps: frozenset[str] | None


def program_of(config: ModelConfig, platform: Platform, sampling: Sampling) -> Program:
    """The program that draws as ``sampling`` says, and, where the platform does not specialise, however else."""
    asked = processors.steps_of(sampling.temperature, sampling.top_k, sampling.top_p)
    return Program(config, platform, asked if platform.specialised else None)


class Decoder:
    """A model made ready to write. Its weights are laid out anew once, here: keep it for several calls.

    Args:
      params: in either layout of ``gpt_jax.model.layout``, as ``config.scan`` says.
      platform: None for that of JAX's default backend; all of them run everywhere.
    """

    def __init__(self, config: ModelConfig, params: dict, platform: Platform | None = None):
        # A kernel that cannot read a cache trains what another one decodes: they compute the same.
        able = config.attend if "cache" in attend.backend(config.attend).can else "auto"
        self.config = dataclasses.replace(config, scan=False, remat="none", dropout=0.0, attend=able)
        unrolled = layout.unstack(params, len(config.attentions)) if config.scan else params
        self._weights = prepare(self.config, unrolled)
        self._platform = platforms.of(jax.default_backend()) if platform is None else platform

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        max_new_tokens: int | Sequence[int],
        sampling: Sampling,
        seeds: Sequence[int],
    ) -> Generated:
        """Continues every prompt by up to ``max_new_tokens`` tokens.

        Args:
          prompts: B lists of one or more ids below ``config.vocab``.
          max_new_tokens: for all rows, or one a row.
          seeds: one a row. The token at position p is drawn with ``fold_in(key(seed), p)``, so that a row's text
            depends on its own prompt and seed alone, and a continued text goes on as the longer one would have.

        Raises:
          UserError: a prompt is empty, holds an id outside the vocabulary, or does not fit the context.
        """
        parts = list(
            self.stream(
                prompts, max_new_tokens=max_new_tokens, sampling=sampling, seeds=seeds, every=self.config.context
            )
        )
        tokens = [[t for part in parts for t in part.tokens[row]] for row in range(len(prompts))]
        logprobs = [[p for part in parts for p in part.logprobs[row]] for row in range(len(prompts))]
        return Generated(tokens, logprobs)

    def stream(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        max_new_tokens: int | Sequence[int],
        sampling: Sampling,
        seeds: Sequence[int],
        every: int = 8,
    ) -> Iterator[Generated]:
        """``generate`` in parts of ``every`` tokens a row; the parts joined are what ``generate`` returns."""
        limits_B = np.broadcast_to(np.asarray(max_new_tokens, np.int32), (len(prompts),))
        for row, (prompt, limit) in enumerate(zip(prompts, limits_B, strict=True), start=1):
            check(self.config, prompt, int(limit), f"prompt {row} of {len(prompts)}")
        most = int(limits_B.max(initial=0))
        if not most:
            return
        width, room = bucket(max(map(len, prompts))), self._platform.room(most)
        rows = self._platform.rows(len(prompts))
        tokens_BP, lengths_B = np.zeros((rows, width), np.int32), np.ones(rows, np.int32)
        for row, prompt in enumerate(prompts):
            tokens_BP[row, width - len(prompt) :], lengths_B[row] = prompt, len(prompt)
        program = program_of(self.config, self._platform, sampling)
        per_row = _filled(_per_row(sampling, seeds, limits_B), rows)
        prefill, advance = compiled(self._platform, rows > 1)
        first = prefill(program, self._weights, tokens_BP, lengths_B, per_row, room)
        done = 0
        for written in self._calls(functools.partial(advance, program), first, program.platform.limits(most, every)):
            there, stopped = int(written["count_B"].max()), not written["open_B"].any()
            while done < there and (stopped or there - done >= every):
                until = min(done + every, there)
                yield _part(written, len(prompts), done, until)
                done = until

    def _calls(self, advance: Callable, first: tuple[dict, dict], limits: Iterable[int]) -> Iterator[dict]:
        """What has been written by each call. The next one is under way while the caller looks at what there is."""
        state, written = first
        for limit in limits:
            state, ahead = advance(self._weights, state, limit)
            written = jax.device_get(written)
            yield written
            if not written["open_B"].any():
                return
            written = ahead
        yield jax.device_get(written)


def check(config: ModelConfig, prompt: Sequence[int], max_new_tokens: int, where: str) -> None:
    """Raises UserError for a prompt that the model cannot continue."""
    if not len(prompt):
        raise UserError("the prompt holds no token", where=where, fix="start it with at least one token")
    outside = [int(t) for t in prompt if not 0 <= t < config.vocab]
    if outside:
        raise UserError(
            f"token id {outside[0]} is outside the vocabulary", where=where, allowed=f"0 to {config.vocab - 1}"
        )
    room = config.context - len(prompt)
    if room < max_new_tokens:
        raise UserError(
            f"{len(prompt)} prompt tokens and {max_new_tokens} new ones do not fit into {config.context} positions",
            where=f"{where}, sample.max_new_tokens, model.context",
            allowed=f"{config.context} tokens in all",
            fix=f"--sample.max_new_tokens={room}" if room > 0 else "shorten the prompt",
        )


@functools.cache
def compiled(platform: Platform, several: bool) -> tuple[Callable, Callable]:
    """The two programs, for one row or several, shared by all decoders; they compile once for each ``Program`` and each
    bucket of lengths."""
    options = platform.compiler_options(several)
    prefill = jax.jit(_prefill, static_argnames=("program", "room"), compiler_options=options)
    advance = jax.jit(_advance, static_argnames="program", donate_argnames="state", compiler_options=options)
    return prefill, advance


def _prefill(program: Program, weights: Any, tokens_BP, lengths_B, per_row: dict, room: int) -> tuple[dict, dict]:
    """Runs the prompts and draws the first token of each row; ``room`` is the number of turns that can follow."""
    batch, width = tokens_BP.shape
    model = merge(program.config, weights, program.platform.product)
    slots_S = jnp.arange(width + room)
    pads_B = width - lengths_B
    valid_BS = slots_S >= pads_B[:, None]
    positions_BP = jnp.maximum(slots_S[:width] - pads_B[:, None], 0)
    cache = model.init_cache(batch, width + room)
    x_BPD, cache = model.extend(tokens_BP, cache, 0, positions_BP, valid_BS)
    state = {
        **per_row,
        "keys_B": jax.vmap(jax.random.key)(per_row["seeds_B"]),
        "cache": cache,
        "valid_BS": valid_BS,
        "lengths_B": lengths_B,
        "tokens_BR": jnp.zeros((batch, 1 + room), jnp.int32),
        "logprobs_BR": jnp.zeros((batch, 1 + room), jnp.float32),
        "count_B": jnp.zeros(batch, jnp.int32),
        "open_B": per_row["limits_B"] > 0,
        "written": jnp.int32(0),
    }
    state = _write(program, model, state, x_BPD[:, -1:])
    return state, {name: state[name] for name in WRITTEN}


def _advance(program: Program, weights: Any, state: dict, limit) -> tuple[dict, dict]:
    """Writes tokens until there are ``limit`` or every row has stopped, or as many as the platform writes at once."""
    width = state["valid_BS"].shape[1] - state["tokens_BR"].shape[1] + 1

    def turn(state):
        model = merge(program.config, weights, program.platform.product)
        last = state["written"] - 1
        tokens_B1 = jax.lax.dynamic_slice_in_dim(state["tokens_BR"], last, 1, axis=1)
        positions_B1 = (state["lengths_B"] + last)[:, None]
        x_B1D, cache = model.extend(tokens_B1, state["cache"], width + last, positions_B1, state["valid_BS"])
        return _write(program, model, {**state, "cache": cache}, x_B1D)

    state = program.platform.repeat(turn, state, limit)
    return state, {name: state[name] for name in WRITTEN}


def _write(program: Program, model: nnx.Module, state: dict, x_B1D) -> dict:
    """Draws a token a row from the last hidden states and writes it down."""
    projection = model.projection()
    product_B1V = program.platform.product(x_B1D, projection.w_DV.T.astype(x_B1D.dtype))
    logits_BV = projection.finish(product_B1V[:, 0].astype(jnp.float32))
    step = state["written"]
    keys_B = jax.vmap(jax.random.fold_in)(state["keys_B"], state["lengths_B"] + step)
    temperature_B, top_k_B, top_p_B = (state[name] for name in ("temperature_B", "top_k_B", "top_p_B"))
    how = program.steps, program.platform.bits
    tokens_B = processors.choose(logits_BV, temperature_B, top_k_B, top_p_B, keys_B, *how)
    chosen_B = jnp.take_along_axis(logits_BV, tokens_B[:, None], axis=1)[:, 0]
    logprobs_B = chosen_B - jax.nn.logsumexp(logits_BV, axis=1)
    open_B = state["open_B"]
    return {
        **state,
        "tokens_BR": jax.lax.dynamic_update_slice_in_dim(state["tokens_BR"], tokens_B[:, None], step, axis=1),
        "logprobs_BR": jax.lax.dynamic_update_slice_in_dim(state["logprobs_BR"], logprobs_B[:, None], step, axis=1),
        "count_B": state["count_B"] + open_B,
        "open_B": open_B & (tokens_B[:, None] != state["stop_ids"]).all(1) & (step + 1 < state["limits_B"]),
        "written": step + 1,
    }


def _per_row(sampling: Sampling, seeds: Sequence[int], limits_B: np.ndarray) -> dict:
    """What rows differ in. Of NumPy, as every operation outside of the programs takes longer than a turn of the loop."""

    def spread(values, dtype):
        return np.broadcast_to(np.asarray(values, dtype), limits_B.shape)

    return {
        "limits_B": limits_B,
        "temperature_B": spread(sampling.temperature, np.float32),
        "top_k_B": spread(sampling.top_k, np.int32),
        "top_p_B": spread(sampling.top_p, np.float32),
        "seeds_B": np.array([folded(seed) for seed in seeds], np.uint32).reshape(limits_B.shape),
        "stop_ids": np.array(sampling.stop_ids or (-1,), np.int32),
    }


def _filled(per_row: dict, rows: int) -> dict:
    """The same with further rows, of which nothing is wanted."""
    return {n: np.pad(v, (0, rows - len(v))) if n.endswith("_B") else v for n, v in per_row.items()}


def _part(written: dict, prompts: int, start: int, end: int) -> Generated:
    """Tokens ``start`` to ``end`` of the first ``prompts`` rows, as far as each has got."""
    counts = written["count_B"][:prompts]

    def rows(values_BR):
        return [row[start : min(end, count)].tolist() for row, count in zip(values_BR[:prompts], counts, strict=True)]

    return Generated(rows(written["tokens_BR"]), rows(written["logprobs_BR"]))
