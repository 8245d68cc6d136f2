"""What is asked of the rows of a batch, as the arrays that the programs take, and what they have written."""

import functools
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

    @functools.cached_property
    def distinct(self) -> tuple[list[Sampling], list[int]]:
        """See ``distinct``."""
        return distinct(self.samplings)

    @functools.cached_property
    def guided(self) -> bool:
        return any(sampling.guidance for sampling in self.distinct[0])

    @functools.cached_property
    def _most_stops(self) -> int:
        return max([1, *(len(sampling.stop_ids) for sampling in self.distinct[0])])

    def sizes(self, platform: Platform) -> Sizes:
        given = map(self._guided, range(len(self)))
        longest = max(len(ids) for own in given for ids in (own[1], guidance.companion(*own)))
        return Sizes(bucket(longest), 1 + platform.room(max(self.limits)))

    def _guided(self, number: int) -> tuple[Guidance | None, Sequence[int]]:
        return self.samplings[number].guidance, self.prompts[number]

    def rows(self, chosen: Sequence[int], knobs: list[dict], filled: int, width: int) -> tuple[np.ndarray, dict]:
        """The arrays of some rows, and of empty ones up to ``filled``: prompts padded on the left, and what the programs
        take of each row. Of NumPy, as every operation outside of the programs takes longer than a turn of the loop; and of
        these rows alone, as there may be many more.

        Args:
          knobs: of the ``distinct`` samplings.
        """
        tokens_BP, lengths_B = np.zeros((filled, width), np.int32), np.ones(filled, np.int32)
        stop_ids_BI = np.full((filled, self._most_stops), NONE, np.int32)
        for row, number in enumerate(chosen):
            prompt, stops = self.prompts[number], self.samplings[number].stop_ids
            tokens_BP[row, width - len(prompt) :], lengths_B[row] = prompt, len(prompt)
            stop_ids_BI[row, : len(stops)] = stops
        own = [self.distinct[1][number] for number in chosen]

        def spread(values, dtype):
            return np.array([*values, *[0] * (filled - len(chosen))], dtype)

        def pick(values):
            return np.concatenate([values[own], np.zeros((filled - len(chosen), *values.shape[1:]), values.dtype)])

        return tokens_BP, {
            **(guidance.rows_of([*map(self._guided, chosen)], filled, width) if self.guided else {}),
            "prompt_B": lengths_B,
            "limit_B": spread([self.limits[i] for i in chosen], np.int32),
            "stop_ids_BI": stop_ids_BI,
            "seeds_B": spread([folded(self.seeds[i]) for i in chosen], np.uint32),
            "greedy_B": spread([self.samplings[i].greedy for i in chosen], bool),
            "knobs": jax.tree.map(pick, knobs),
        }


def distinct(samplings: Sequence[Sampling]) -> tuple[list[Sampling], list[int]]:
    """The samplings that are different objects, and which of them each one is. Many rows share one, whose processors may
    hold tables as large as the vocabulary."""
    found = {id(sampling): sampling for sampling in samplings}
    places = {identity: place for place, identity in enumerate(found)}
    return [*found.values()], [places[id(sampling)] for sampling in samplings]
