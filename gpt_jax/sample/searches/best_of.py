"""Best of n: several texts are drawn, and the best of them kept."""

from dataclasses import dataclass

import numpy as np

from gpt_jax.sample.decode import Decoder
from gpt_jax.sample.rows import Asked
from gpt_jax.sample.searches import Found, Rank


def mean_logprob(number: int, found: Found) -> float:
    """Of a text's tokens under the model itself."""
    return float(np.mean(found.logprobs)) if found.logprobs else 0.0


@dataclass(frozen=True)
class BestOf:
    """The best of ``drawn`` texts a prompt, each drawn with a seed of its own.

    Args:
      returned: texts a prompt, at most ``drawn``.
    """

    drawn: int
    returned: int = 1
    rank: Rank = mean_logprob

    def run(self, decoder: Decoder, asked: Asked) -> list[list[Found]]:
        numbers = np.repeat(np.arange(len(asked)), self.drawn).tolist()
        draws = [seed for row in asked.seeds for seed in seeds_of(row, self.drawn)]
        written = decoder.generate(
            [asked.prompts[number] for number in numbers],
            max_new_tokens=[asked.limits[number] for number in numbers],
            sampling=[asked.samplings[number] for number in numbers],
            seeds=draws,
        )
        ranked: list[list[tuple[float, Found]]] = [[] for _ in range(len(asked))]
        for number, tokens, logprobs in zip(numbers, written.tokens, written.logprobs, strict=True):
            score = self.rank(number, Found(tokens, logprobs))
            ranked[number].append((score, Found(tokens, logprobs, score)))
        best = [sorted(row, key=lambda each: -each[0])[: self.returned] for row in ranked]
        return [[found for _, found in row] for row in best]


def seeds_of(seed: int, count: int) -> list[int]:
    """Seeds of the texts of a prompt, the first being its own; more of them begin with the same ones."""
    return [seed, *np.random.SeedSequence(seed).generate_state(count - 1).tolist()]
