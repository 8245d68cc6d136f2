"""What is asked of the rows of a batch, as the arrays that the programs take, and what they have written."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import jax
import numpy as np

from gpt_jax.limits import folded
from gpt_jax.sample.engine import guidance
from gpt_jax.sample.engine.guidance import Guidance
from gpt_jax.sample.engine.program import Sizes
from gpt_jax.sample.platform import Platform, bucket
from gpt_jax.sample.processors import NONE, Processor
from gpt_jax.sample.speculative.acceptance import Acceptance


@dataclass(frozen=True)
class Sampling:
    """How the tokens of a row are drawn (``gpt_jax.sample.knobs.sampling`` makes one of plain knobs).

    Args:
      processors: what changes the scores, in order.
      greedy: the most likely token is taken, and processors that only shape what is drawn are left out.
      stop_ids: each ends the row after it has been written.
      guidance: by a negative prompt, before the processors.
    """

    processors: tuple[Processor, ...] = ()
    greedy: bool = False
    stop_ids: tuple[int, ...] = ()
    guidance: Guidance | None = None

    @property
    def applied(self) -> tuple[Processor, ...]:
        return tuple(p for p in self.processors if not (self.greedy and p.warps))


@dataclass(frozen=True)
class Generated:
    """What was written after each prompt; a stop id is the last token of its row.

    ``logprobs`` are natural logarithms of the model's own probabilities, before any processor. ``notes`` holds what else
    was asked for, by the names of ``gpt_jax.sample.engine.notes``: an entry a token. ``acceptance`` is of speculative
    decoding.
    """

    tokens: list[list[int]]
    logprobs: list[list[float]]
    notes: dict[str, list[list]] = field(default_factory=dict)
    acceptance: list[Acceptance] | None = None


@dataclass(frozen=True)
class Row:
    """What was written after one prompt, and the notes of it: an entry a token."""

    tokens: list[int]
    notes: dict[str, list]
    acceptance: Acceptance | None = None


Ended = Callable[[int, list[int]], bool]  # of a prompt's number and what has been written after it so far


@dataclass(frozen=True)
class Asked:
    """What is to be written after B prompts, row by row."""

    prompts: Sequence[Sequence[int]]
    limits: list[int]
    samplings: Sequence[Sampling]
    seeds: Sequence[int]

    def __len__(self) -> int:
        return len(self.prompts)

    @property
    def longest(self) -> int:
        """Tokens of a text, at most."""
        return max(len(prompt) + limit for prompt, limit in zip(self.prompts, self.limits, strict=True))

    @property
    def guided(self) -> bool:
        return any(sampling.guidance for sampling in self.samplings)

    def sizes(self, platform: Platform) -> Sizes:
        longest = max(len(ids) for given in self._guided for ids in (given[1], guidance.companion(*given)))
        return Sizes(bucket(longest), 1 + platform.room(max(self.limits)))

    @property
    def _guided(self) -> list[tuple[Guidance | None, Sequence[int]]]:
        return [(sampling.guidance, prompt) for sampling, prompt in zip(self.samplings, self.prompts, strict=True)]

    def rows(self, chosen: Sequence[int], knobs: list[dict], filled: int, width: int) -> tuple[np.ndarray, dict]:
        """The arrays of some rows, and of empty ones up to ``filled``: prompts padded on the left, and what the programs
        take of each row. Of NumPy, as every operation outside of the programs takes longer than a turn of the loop."""
        tokens_BP, lengths_B = np.zeros((filled, width), np.int32), np.ones(filled, np.int32)
        most = max([1, *(len(s.stop_ids) for s in self.samplings)])
        stop_ids_BI = np.full((filled, most), NONE, np.int32)
        for row, number in enumerate(chosen):
            prompt, stops = self.prompts[number], self.samplings[number].stop_ids
            tokens_BP[row, width - len(prompt) :], lengths_B[row] = prompt, len(prompt)
            stop_ids_BI[row, : len(stops)] = stops

        def spread(values, dtype):
            return np.array([*(values[i] for i in chosen), *[0] * (filled - len(chosen))], dtype)

        def pick(values):
            return np.concatenate(
                [values[list(chosen)], np.zeros((filled - len(chosen), *values.shape[1:]), values.dtype)]
            )

        given = self._guided
        return tokens_BP, {
            **(guidance.rows_of([given[i] for i in chosen], filled, width) if self.guided else {}),
            "prompt_B": lengths_B,
            "limit_B": spread(self.limits, np.int32),
            "stop_ids_BI": stop_ids_BI,
            "seeds_B": spread([folded(seed) for seed in self.seeds], np.uint32),
            "greedy_B": spread([s.greedy for s in self.samplings], bool),
            "knobs": jax.tree.map(pick, knobs),
        }
