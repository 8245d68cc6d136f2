"""Texts longer than the context, read part by part: every token but the first has one log-probability, and none is lost.

A model whose layers keep as much of a short text as of a long one (recurrent states, windows of attention) is carried on
from part to part, and says what it would say if it read the whole text at once. Another one reads windows that overlap.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from gpt_jax import bars
from gpt_jax.config import ModelConfig
from gpt_jax.config.sections import WAYS
from gpt_jax.errors import UserError
from gpt_jax.model import gpt
from gpt_jax.model.cache import NOTHING
from gpt_jax.sample import likelihood
from gpt_jax.sample.decode import Decoder
from gpt_jax.sample.engine.context import bounded
from gpt_jax.sample.engine.program import Program
from gpt_jax.sample.engine.weights import merge
from gpt_jax.sample.engine.writing import scores
from gpt_jax.sample.platform import Platform, bucket

WHERE = "way"
STATE, ROLL, WINDOWS = WAYS
LONG = 1 << 20  # tokens; what a layer keeps of more, it keeps of any number


@dataclass(frozen=True)
class Reading:
    """What a model gives to the tokens of a long text.

    Attributes:
      logprobs: float32 [N-1], the natural logarithm of the probability of tokens 1 to N-1.
      way: of ``WAYS``.
      before: tokens that each is read after, at least, where so many stand before it; 0 = all that the model keeps.
    """

    logprobs: np.ndarray
    way: str
    before: int


def read(decoder: Decoder, ids: Sequence[int], way: str = "", stride: int = 0) -> Reading:
    """Reads a text of N tokens.

    Args:
      way: "state": parts of the text one after another, with all that the layers keep of those before. "roll": the same,
        where attention sees the last ``context`` tokens, as ``sample.beyond_context`` has it. "windows": parts of
        ``context`` tokens that begin ``stride`` apart. Empty: state where the model can, else windows.
      stride: of windows; 0 = the context.

    Raises:
      UserError: the text is shorter than two tokens, or holds an id outside the vocabulary; the model cannot read it so.
    """
    config = decoder.config
    way, step = check(config, way, stride), stride or config.context
    if len(ids) < 2:
        raise UserError("one token has no loss: nothing predicts the first", where="text", allowed="two tokens or more")
    wrong = next((i for i in ids if not 0 <= i < config.vocab), None)
    if wrong is not None:
        raise UserError(f"token id {wrong} is outside the vocabulary", where="text", allowed=f"0 to {config.vocab - 1}")
    parts = _windows(decoder, ids, step) if way == WINDOWS else _carried(decoder, ids, config.context * (way == ROLL))
    logprobs = np.zeros(len(ids) - 1, np.float32)
    with bars.bar(total=len(logprobs), desc="reading", unit="token") as bar:
        for begin, found in parts:
            logprobs[begin : begin + len(found)] = found
            bar.update(len(found))
    return Reading(logprobs, way, {STATE: 0, ROLL: config.context, WINDOWS: config.context - step}[way])


def check(config: ModelConfig, way: str, stride: int) -> str:
    """The way in which a text is read.

    Raises:
      UserError: there is no such way, the model cannot go it, or the stride is not that of windows.
    """
    if way not in ("", *WAYS):
        raise UserError(f"there is no way {way!r} to read a text", where=WHERE, allowed=", ".join(WAYS))
    scheme, keeps = bounded(config), keeps_the_same(config)
    if way in (STATE, ROLL) and scheme:
        raise UserError(f"{scheme} positions end at model.context = {config.context}", where=WHERE, allowed=WINDOWS)
    if way == STATE and not keeps:
        raise UserError(
            f"attention of {config.attention} looks back at any number of tokens, so what it keeps grows with the text",
            where=f"{WHERE}, config.model.attention",
            allowed=f"{ROLL}, {WINDOWS}",
        )
    found = way or (STATE if keeps and not scheme and not stride else WINDOWS)
    if stride and found != WINDOWS:
        raise UserError(f"a text that is carried on has no stride, and it is {stride}", where=WHERE, allowed=WINDOWS)
    if stride > config.context:
        raise UserError(
            f"windows of {config.context} tokens that begin {stride} apart would leave tokens out",
            where="config.eval.stride",
            allowed=f"0 to {config.context}",
        )
    return found


@functools.cache
def keeps_the_same(config: ModelConfig) -> bool:
    """Whether the layers keep no more of a longer text: what they keep is carried on exactly, however long it gets."""

    def shapes(length: int) -> Any:
        kept = nnx.eval_shape(lambda: gpt.GPT(config, nnx.Rngs(params=0)).init_cache(1, length, 1))
        return jax.tree.map(lambda leaf: leaf.shape, kept["blocks"])

    return shapes(LONG) == shapes(2 * LONG)


def _windows(decoder: Decoder, ids: Sequence[int], stride: int) -> Iterator[tuple[int, list[float]]]:
    """(the place of the first, log-probabilities) of windows, each without those that the window before it has."""
    context, places = decoder.config.context, len(ids) - 1
    begins = [0]
    while begins[-1] + context < places:
        begins.append(min(begins[-1] + stride, places - context))
    ends = [min(begin + context, places) for begin in begins]
    for i, found in likelihood.each(decoder, [ids[b : e + 1] for b, e in zip(begins, ends, strict=True)]):
        fresh = ends[i] - (ends[i - 1] if i else 0)
        yield ends[i] - fresh, found.logprobs[-fresh:]


def _carried(decoder: Decoder, ids: Sequence[int], window: int) -> Iterator[tuple[int, np.ndarray]]:
    """(the place of the first, log-probabilities) of parts, each read after what is kept of those before."""
    config, platform, places = decoder.config, decoder.platform, len(ids) - 1
    chunk = min(platform.chunk, bucket(places))
    length = window + chunk - 1 if window else max(places, chunk)
    begin, extend = _programs(platform)
    program = Program(config, platform)
    cache = begin(program, decoder.prepared, length, chunk)
    for start in range(0, places, chunk):
        count = min(chunk, places - start)
        tokens_1C, targets_1C = np.zeros((2, 1, chunk), np.int32)
        tokens_1C[0, :count], targets_1C[0, :count] = ids[start : start + count], ids[start + 1 : start + count + 1]
        positions_1C = np.where(np.arange(chunk) < count, start + np.arange(chunk), NOTHING)[None]
        logprobs_C, cache = extend(
            program, decoder.prepared, cache, tokens_1C, targets_1C, np.int32(start), positions_1C, window
        )
        yield start, np.asarray(logprobs_C)[:count]


@functools.cache
def _programs(platform: Platform) -> tuple[Callable, Callable]:
    options = platform.compiler_options(False)
    begin = jax.jit(_begin, static_argnames=("program", "length", "chunk"), compiler_options=options)
    static = ("program", "window")
    return begin, jax.jit(_extend, static_argnames=static, donate_argnames="cache", compiler_options=options)


def _begin(program: Program, weights: Any, length: int, chunk: int) -> dict:
    return merge(program.config, weights, program.platform.product).init_cache(1, length, chunk)


def _extend(
    program: Program, weights: Any, cache: dict, tokens_1C, targets_1C, start, positions_1C, window: int
) -> tuple[jax.Array, dict]:
    model = merge(program.config, weights, program.platform.product)
    x_1CD, cache = model.extend(tokens_1C, cache, start, positions_1C, window)
    logits_CV = scores(program, model, x_1CD)[0]
    target_C = jnp.take_along_axis(logits_CV, targets_1C[0][:, None], axis=1)[:, 0]
    return target_C - jax.nn.logsumexp(logits_CV, axis=-1), cache
