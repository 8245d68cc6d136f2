"""Texts that do not fit into ``model.context``: refused, read through a window that rolls on, or cut and read anew."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
from flax import nnx

from gpt_jax.config import ModelConfig
from gpt_jax.config.sections import BEYOND
from gpt_jax.errors import UserError, did_you_mean
from gpt_jax.model import gpt
from gpt_jax.model.position import Position

WHERE = "config.sample.beyond_context"
REFUSE, ROLL, REREAD = BEYOND


def check(config: ModelConfig, prompt: Sequence[int], max_new_tokens: int, where: str, beyond: str = REFUSE) -> None:
    """Raises UserError for a prompt that the model cannot continue.

    Args:
      beyond: what happens to texts longer than the context, of ``config.BEYOND``.
    """
    if not len(prompt):
        raise UserError("the prompt holds no token", where=where, fix="start it with at least one token")
    outside = [int(t) for t in prompt if not 0 <= t < config.vocab]
    if outside:
        raise UserError(
            f"token id {outside[0]} is outside the vocabulary", where=where, allowed=f"0 to {config.vocab - 1}"
        )
    room = config.context - len(prompt)
    if room < max_new_tokens and beyond == REFUSE:
        shorter = f"--sample.max_new_tokens={room}" if room > 0 else "shorten the prompt"
        goes_on = REREAD if bounded(config) else ROLL
        raise UserError(
            f"{len(prompt)} prompt tokens and {max_new_tokens} new ones do not fit into {config.context} positions",
            where=f"{where}, sample.max_new_tokens, model.context",
            allowed=f"{config.context} tokens in all",
            fix=f"{shorter}, or go on with --sample.beyond_context={goes_on}",
        )


def check_choice(config: ModelConfig, beyond: str) -> str:
    """``beyond``, where the model can do it.

    Raises:
      UserError: there is no such choice, or the model has positions up to its context alone and none to roll on to.
    """
    if beyond not in BEYOND:
        known = did_you_mean(beyond, BEYOND)
        raise UserError(f"beyond_context = {beyond!r}", where=WHERE, allowed=", ".join(BEYOND), fix=known)
    if beyond == ROLL and (scheme := bounded(config)):
        raise UserError(
            f"{scheme} positions end at model.context = {config.context}, so the text cannot roll on beyond it",
            where=f"{WHERE}, config.model.position",
            allowed=f"{REFUSE}, {REREAD}",
            fix=f"--sample.beyond_context={REREAD}, or train with positions that go on: rope, alibi, sinusoidal",
        )
    return beyond


@functools.cache
def bounded(config: ModelConfig) -> str:
    """The name of a position scheme of the model that ends with the context; empty where none does."""
    abstract: Any = nnx.eval_shape(lambda: gpt.GPT(config, nnx.Rngs(params=0)))
    schemes = (module for _, module in nnx.iter_modules(abstract) if isinstance(module, Position))
    return next((type(scheme).__name__.lower() for scheme in schemes if scheme.bounded), "")


@dataclass(frozen=True)
class Span:
    """How much of a text is read to write its next token.

    Args:
      window: positions that attention goes back, at most; 0 = any number.
      restart: the context that a text is cut to whenever it is full, and then read anew; 0 = never.
    """

    window: int = 0
    restart: int = 0


def span(config: ModelConfig, beyond: str, longest: int) -> Span:
    """That of texts of up to ``longest`` tokens: all of it where they fit into the context."""
    if longest <= config.context or beyond == REFUSE:
        return Span()
    return Span(window=config.context) if beyond == ROLL else Span(restart=config.context)


def cut(context: int) -> int:
    """How many tokens a full context loses at its front once another one is written: what is left, with that one, is half
    of the context."""
    return context + 1 - max(1, context // 2)


def first_kept(lengths: jax.Array, context: int) -> jax.Array:
    """Where the part of texts begins that is read as one, after all the cuts that their lengths have had."""
    return -(-(lengths - context).clip(0) // cut(context)) * cut(context)
