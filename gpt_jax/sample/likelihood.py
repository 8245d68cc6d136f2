"""What the model gives to the tokens of texts that there are: a forward pass of many side by side."""

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gpt_jax.errors import UserError
from gpt_jax.model.cache import NOTHING
from gpt_jax.sample.decode import Decoder
from gpt_jax.sample.engine.program import Program
from gpt_jax.sample.engine.weights import merge
from gpt_jax.sample.engine.writing import scores
from gpt_jax.sample.platform import Platform, bucket

AT_ONCE = 4096  # tokens that are read side by side, and more where a single text has more


@dataclass(frozen=True)
class Likelihood:
    """Of each token of a text but the first, which nothing predicts.

    Attributes:
      logprobs: natural logarithm of the model's own probability.
      likeliest: whether none is more probable.
      top_ids, top_logprobs: of the likeliest tokens in its place, as many as were asked for, the likeliest first.
    """

    logprobs: list[float]
    likeliest: list[bool]
    top_ids: list[list[int]]
    top_logprobs: list[list[float]]


def likelihoods(decoder: Decoder, texts: Sequence[Sequence[int]]) -> list[Likelihood]:
    """Of texts of one token or more, up to the context and one more, whatever stands beside them.

    Raises:
      UserError: a text is empty or too long, or holds an id outside the vocabulary.
    """
    return [found for _, found in sorted(each(decoder, texts), key=lambda pair: pair[0])]


def each(decoder: Decoder, texts: Sequence[Sequence[int]]) -> Iterator[tuple[int, Likelihood]]:
    """``likelihoods``, each with its number, in the order in which they are found: the longest first."""
    for number, text in enumerate(texts, start=1):
        _check(decoder, text, f"text {number} of {len(texts)}")
    order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))
    while order:
        width = bucket(max(len(texts[order[0]]) - 1, 1))
        most = max(1, AT_ONCE // width)
        rows = [i for i in order[:most] if bucket(max(len(texts[i]) - 1, 1)) == width]
        order = order[len(rows) :]
        yield from zip(rows, read(decoder, [texts[i] for i in rows], width), strict=True)


def _check(decoder: Decoder, text: Sequence[int], where: str) -> None:
    context, vocab = decoder.config.context, decoder.config.vocab
    if not 1 <= len(text) <= context + 1:
        raise UserError(
            f"it has {len(text)} tokens", where=where, allowed=f"1 to {context + 1}, the context and one more"
        )
    if min(text) < 0 or max(text) >= vocab:
        raise UserError("it holds a token id outside the vocabulary", where=where, allowed=f"0 to {vocab - 1}")


def read(decoder: Decoder, texts: Sequence[Sequence[int]], width: int, top: int = 0) -> list[Likelihood]:
    """Of texts that fit into ``width`` and one more, side by side, in a power of two of rows.

    Args:
      top: how many of the likeliest tokens are noted.
    """
    filled = 1 << (len(texts) - 1).bit_length()
    tokens_BP, targets_BP = np.zeros((2, filled, width), np.int32)
    starts = [width - len(text) + 1 for text in texts]
    for row, (start, text) in enumerate(zip(starts, texts, strict=True)):
        tokens_BP[row, start:], targets_BP[row, start:] = text[:-1], text[1:]
    start_B = np.array([*starts, *[width] * (filled - len(texts))])
    positions_BP = np.maximum(np.arange(width) - start_B[:, None], NOTHING)
    program = Program(decoder.config, decoder.platform, top=top)
    found = _program(decoder.platform)(program, decoder.prepared, tokens_BP, targets_BP, positions_BP)
    arrays = [[row[start:].tolist() for start, row in zip(starts, a, strict=False)] for a in jax.device_get(found)]
    return [Likelihood(*of_text) for of_text in zip(*arrays, strict=True)]


@functools.cache
def _program(platform: Platform) -> Callable:
    return jax.jit(_of_targets, static_argnames="program", compiler_options=platform.compiler_options(True))


def _of_targets(program: Program, weights: Any, tokens_BP, targets_BP, positions_BP) -> tuple[jax.Array, ...]:
    """The fields of ``Likelihood``, [B, P] and [B, P, top]; the logits of a single text exist at once."""
    model = merge(program.config, weights, program.platform.product)
    cache = model.init_cache(*tokens_BP.shape)
    x_BPD, _ = model.extend(tokens_BP, cache, 0, positions_BP)

    def of_text(given):
        x_PD, targets_P = given
        logits_PV = scores(program, model, x_PD[None])[0]
        target_P = jnp.take_along_axis(logits_PV, targets_P[:, None], axis=1)[:, 0]
        total_P = jax.nn.logsumexp(logits_PV, axis=-1)
        top_PN, ids_PN = jax.lax.top_k(logits_PV, program.top)
        return target_P - total_P, target_P >= logits_PV.max(-1), ids_PN, top_PN - total_P[:, None]

    return jax.lax.map(of_text, (x_BPD, targets_BP))
