"""Best of n: several texts are drawn, and the best of them kept."""

import bisect
from dataclasses import dataclass, replace

import numpy as np

from gpt_jax import bars
from gpt_jax.sample.decode import Decoder
from gpt_jax.sample.engine import notes
from gpt_jax.sample.rows import Asked
from gpt_jax.sample.searches import Found, Rank, mean


def mean_logprob(number: int, found: Found) -> float:
    """Of a text's tokens under the model itself."""
    return mean(found.logprobs)


@dataclass(frozen=True)
class BestOf:
    """The best of ``drawn`` texts a prompt, each drawn with a seed of its own. A bar counts them where there are many.

    Args:
      returned: texts a prompt, at most ``drawn``.
      rows: texts that are drawn side by side; they do not depend on it. No more than ``returned`` of a prompt are kept.
    """

    drawn: int
    returned: int = 1
    rank: Rank = mean_logprob
    rows: int = 64

    def run(self, decoder: Decoder, asked: Asked) -> list[list[Found]]:
        numbers = np.repeat(np.arange(len(asked)), self.drawn).tolist()
        written = decoder.each(
            [asked.prompts[number] for number in numbers],
            max_new_tokens=[asked.limits[number] for number in numbers],
            sampling=[asked.samplings[number] for number in numbers],
            seeds=[seed for row in asked.seeds for seed in seeds_of(row, self.drawn)],
            rows=self.rows,
        )
        if len(numbers) > self.rows:
            written = bars.bar(written, total=len(numbers), unit="text", leave=False)
        best: list[list[tuple[float, int, Found]]] = [[] for _ in range(len(asked))]
        for place, row in written:
            number, found = numbers[place], Found(row.tokens, row.notes[notes.LOGPROBS])
            score = self.rank(number, found)
            # Texts end in any order; of equal ones the first drawn is kept.
            bisect.insort(best[number], (-score, place, replace(found, score=score)), key=lambda each: each[:2])
            del best[number][self.returned :]
        return [[found for *_, found in row] for row in best]


def seeds_of(seed: int, count: int) -> list[int]:
    """Seeds of the texts of a prompt, the first being its own; more of them begin with the same ones."""
    return [seed, *np.random.SeedSequence(seed).generate_state(count - 1).tolist()]
