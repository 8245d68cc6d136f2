"""The most likely text of a model, with a proof (Stahlberg & Byrne 2019, by the best prefix first)."""

import functools
import heapq
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from gpt_jax.errors import UserError
from gpt_jax.sample.calls import program_of
from gpt_jax.sample.decode import Decoder
from gpt_jax.sample.engine import chain, reading, writing
from gpt_jax.sample.engine.program import Program, Sizes
from gpt_jax.sample.engine.weights import merge
from gpt_jax.sample.platform import Platform, bucket
from gpt_jax.sample.rows import Asked
from gpt_jax.sample.searches import Found
from gpt_jax.sample.searches.opening import text_of

AT_ONCE = 16  # prefixes that are read side by side


@dataclass(frozen=True)
class Certificate:
    """What is known of the texts that were not looked at.

    Args:
      nodes: prefixes whose continuations were computed.
      bound: no text is more likely than this: the largest log-probability of a prefix that was not continued, or that of
        the best text. Sums are of float32 numbers.
      best: log-probability of the best text found.
    """

    nodes: int
    bound: float
    best: float

    @property
    def proved(self) -> bool:
        """Whether there is no better text."""
        return self.bound <= self.best

    def __str__(self) -> str:
        known = f"log-probability {self.best:.4f}, {self.nodes} prefixes read"
        if self.proved:
            return f"proved: no text is likelier; {known}"
        return f"not proved: others may have up to {self.bound:.4f}; {known}"


@dataclass(frozen=True)
class Exact:
    """The text with the largest sum of log-probabilities, after processors, that ends with a stop id or is full.

    Log-probabilities are at most 0, so a prefix is at least as likely as all that begins with it: prefixes that are less
    likely than a text that is known are left out. The search begins with the greedy text, and ends without a proof once
    ``nodes`` prefixes have been read. A text's score is its sum.
    """

    nodes: int

    def run(self, decoder: Decoder, asked: Asked) -> list[list[Found]]:
        found = []
        for number in range(len(asked)):
            text, certificate = self.best(decoder, asked, number)
            print(f"note: prompt {number + 1}: {certificate}", file=sys.stderr)
            found.append([text])
        return found

    def best(self, decoder: Decoder, asked: Asked, number: int) -> tuple[Found, Certificate]:
        """The best text of one prompt, and what is known of the others."""
        limit, sampling = asked.limits[number], asked.samplings[number]
        if any(processor.advance for processor in sampling.applied):
            raise UserError(
                "an exact search cannot use processors that keep a state of what was written",
                where="config.sample.exact_nodes, config.sample.processors",
            )
        best, known = _greedy(decoder, asked, number)
        read = _Reader(decoder, asked, number)
        waiting: list[tuple[float, tuple[int, ...], tuple[float, ...]]] = [(-0.0, (), ())] if limit else []
        nodes = 0
        while waiting and -waiting[0][0] > known and nodes < self.nodes:
            most = min(AT_ONCE, self.nodes - nodes, len(waiting))
            taken = [heapq.heappop(waiting) for _ in range(most)]
            taken = [prefix for prefix in taken if -prefix[0] > known]
            nodes += len(taken)
            final_JV, own_JV = read([tokens for _, tokens, _ in taken])
            for (cost, tokens, logprobs), final_V, own_V in zip(taken, final_JV, own_JV, strict=True):
                score_V = final_V.astype(np.float64) - cost
                for token in np.flatnonzero(score_V > known).tolist():
                    score, text = float(score_V[token]), (*tokens, token)
                    after = (*logprobs, float(own_V[token]))
                    if token not in sampling.stop_ids and len(text) < limit:
                        heapq.heappush(waiting, (-score, text, after))
                    elif score > known:
                        best, known = Found(list(text), list(after), score), score
        left = -waiting[0][0] if waiting else known
        return best, Certificate(nodes, max(left, known), known)


def _greedy(decoder: Decoder, asked: Asked, number: int) -> tuple[Found, float]:
    """The text that takes the most likely token every time, and its score."""
    written = decoder.generate(
        [asked.prompts[number]],
        max_new_tokens=asked.limits[number],
        sampling=asked.samplings[number],
        seeds=[asked.seeds[number]],
        noted=("final_logprobs",),
    )
    score = float(np.sum(written.notes["final_logprobs"][0]))
    return Found(written.tokens[0], written.logprobs[0], score), score


class _Reader:
    """What follows prefixes of one prompt's texts: log-probabilities after processors and the model's own, [J, V]."""

    def __init__(self, decoder: Decoder, asked: Asked, number: int):
        self._decoder, self._asked, self._number = decoder, asked, number
        self._sizes = Sizes(bucket(len(asked.prompts[number]) + asked.limits[number]), 0)

    def __call__(self, prefixes: list[tuple[int, ...]]) -> tuple[np.ndarray, np.ndarray]:
        asked, number, count = self._asked, self._number, len(prefixes)
        prompt, sampling = list(asked.prompts[number]), asked.samplings[number]
        texts = Asked(
            [[*prompt, *prefix] for prefix in prefixes], [asked.limits[number]] * count, [sampling] * count, [0] * count
        )
        program, knobs = program_of(self._decoder.config, self._decoder.platform, texts.samplings)
        tokens_JP, given = texts.rows(range(count), knobs, AT_ONCE, self._sizes.width)
        given["length_B"] = given["prompt_B"]
        given["prompt_B"] = np.full(AT_ONCE, len(prompt), np.int32)
        read = _compiled(self._decoder.platform)
        scores = jax.device_get(read(program, self._decoder.weights, tokens_JP, given, self._sizes))
        final_JV, own_JV = (each_JV[:count] for each_JV in scores)
        return final_JV, own_JV


@functools.cache
def _compiled(platform: Platform) -> Callable:
    options = platform.compiler_options(several=True)
    return jax.jit(_next, static_argnames=("program", "sizes"), compiler_options=options)


def _next(program: Program, weights: Any, tokens_JP, given: dict, sizes: Sizes) -> tuple[jax.Array, jax.Array]:
    model = merge(program.config, weights, program.platform.product)
    lengths_J = given["length_B"]
    cache = reading.empty(program, model, len(tokens_JP), sizes)
    x_JTD, _ = reading.read(program, model, tokens_JP, reading.positions_of(tokens_JP, lengths_J), cache, 0)
    logits_JV = writing.scores(program, model, x_JTD[:, -1:])[:, 0]
    keys_J = jax.vmap(jax.random.key)(given["seeds_B"])
    step = writing.step_of(program, {**given, "tokens_BS": text_of(tokens_JP, lengths_J, sizes), "keys_B": keys_J})
    final_JV = chain.process(program.links, given["knobs"], logits_JV, step, not program.platform.specialised)
    return jax.nn.log_softmax(final_JV), jax.nn.log_softmax(logits_JV)
