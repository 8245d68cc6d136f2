"""What the model gives to the tokens of a prompt: one forward pass."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gpt_jax.model.cache import NOTHING
from gpt_jax.sample.decode import Decoder
from gpt_jax.sample.engine.program import Program
from gpt_jax.sample.engine.weights import merge
from gpt_jax.sample.engine.writing import scores
from gpt_jax.sample.platform import Platform, bucket


def prompt_logprobs(decoder: Decoder, ids: Sequence[int]) -> list[float | None]:
    """Natural logarithm of the model's own probability of each token of a prompt; None for the first, which nothing
    predicts. No processor changes them."""
    width = bucket(len(ids))
    place_P = np.arange(width) - (width - len(ids))
    tokens_P = np.zeros(width, np.int32)
    tokens_P[place_P >= 0] = ids
    program = Program(decoder.config, decoder.platform)
    scored = _scored(decoder.platform)(program, decoder.weights, tokens_P, np.maximum(place_P, NOTHING))
    return [None, *np.asarray(scored)[width - len(ids) :].tolist()]


@functools.cache
def _scored(platform: Platform) -> Callable:
    return jax.jit(_of_next, static_argnames="program", compiler_options=platform.compiler_options(True))


def _of_next(program: Program, weights: Any, tokens_P, positions_P) -> jax.Array:
    """Of the token after each but the last, float32 [P-1]."""
    model = merge(program.config, weights, program.platform.product)
    cache = model.init_cache(1, len(tokens_P))
    x_1PD, _ = model.extend(tokens_P[None], cache, 0, positions_P[None])
    logs_PV = jax.nn.log_softmax(scores(program, model, x_1PD)[0])
    return jnp.take_along_axis(logs_PV[:-1], tokens_P[1:, None], axis=1)[:, 0]
