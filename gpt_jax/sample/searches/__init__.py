"""Ways to write a text other than a token at a time, a file each; ``chosen`` says which of them the knobs ask for.

A search looks at several continuations of a prompt and keeps the best of them by a score of its own.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from gpt_jax.errors import UserError
from gpt_jax.sample.decode import Decoder
from gpt_jax.sample.rows import Asked


@dataclass(frozen=True)
class Found:
    """A continuation of a prompt.

    Args:
      logprobs: natural logarithms of the model's own probabilities, before any processor.
      score: what a search ranked it by; the highest is the best. None: it was not.
      token_scores: of each token, where ``score`` is their mean; None where it is not.
    """

    tokens: list[int]
    logprobs: list[float]
    score: float | None = None
    token_scores: list[float] | None = None


Rank = Callable[[int, Found], float]  # of a continuation of the prompt of that number; the highest is the best


class Search(Protocol):
    """A way to write."""

    def run(self, decoder: Decoder, asked: Asked) -> list[list[Found]]:
        """For each prompt as many continuations as the knobs ask for, the best first.

        Raises:
          UserError: processors leave no token, or the search cannot be made with this model or these processors.
        """
        ...


def mean(values: Sequence[float]) -> float:
    """0 where there are none."""
    return float(np.mean(values)) if values else 0.0


def check_processors(asked: Asked) -> None:
    """Raises UserError for processors that end a text by themselves, which only a row of its own can do."""
    if any(processor.ends for sampling in asked.samplings for processor in sampling.applied):
        raise UserError(
            "this search cannot use processors that end texts themselves, as automata do",
            where="config.sample.processors",
            fix="best_of, or no search",
        )


def no_token_left(asked: Asked, number: int) -> UserError:
    """That processors have left a prompt nothing to go on with."""
    names = ", ".join(p.change.__module__.rpartition(".")[2] for p in asked.samplings[number].applied)
    return UserError(
        f"no token is left for prompt {number + 1} of {len(asked)}: {names} removed all of them",
        where="config.sample",
        fix="loosen one of them",
    )
