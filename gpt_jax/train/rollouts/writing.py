"""Completions of a policy: prompts in, tokens out, each row a function of its prompt and seed alone."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from gpt_jax.config import Config
from gpt_jax.data.examples import Row
from gpt_jax.data.tokenizers import Tokenizer
from gpt_jax.limits import folded
from gpt_jax.sample.decode import Decoder, Sampling
from gpt_jax.sample.knobs import of_config
from gpt_jax.sample.outputs.writing import vocabulary
from gpt_jax.train.rewards import Completion


@dataclass(frozen=True)
class Written:
    """Completions, a row each.

    Attributes:
      prompts: the ids before them.
      logprobs: of their tokens, as the decoder found them, before the temperature.
      completions: what rewards read.
    """

    prompts: list[np.ndarray]
    logprobs: list[list[float]]
    completions: list[Completion]

    def __len__(self) -> int:
        return len(self.prompts)

    @staticmethod
    def joined(parts: Sequence["Written"]) -> "Written":
        return Written(
            [ids for part in parts for ids in part.prompts],
            [found for part in parts for found in part.logprobs],
            [completion for part in parts for completion in part.completions],
        )

    def taken(self, rows: np.ndarray) -> "Written":
        """Some of them, by number or by whether they are wanted."""
        at = np.arange(len(self))[rows]
        return Written([self.prompts[i] for i in at], [self.logprobs[i] for i in at], [self.completions[i] for i in at])

    def arrays(self, length: Callable[[int], int]) -> dict[str, np.ndarray]:
        """tokens, targets and weights [N, T] of the completions after their prompts.

        Args:
          length: T, of the tokens that the longest row needs.
        """
        sizes = [len(ids) + len(c.ids) - 1 for ids, c in zip(self.prompts, self.completions, strict=True)]
        context = length(max(sizes))
        tokens_NT, targets_NT = (np.zeros((len(self), context), np.int32) for _ in range(2))
        weights_NT = np.zeros((len(self), context), np.float32)
        for n, (prompt, completion) in enumerate(zip(self.prompts, self.completions, strict=True)):
            ids = np.concatenate([prompt, np.asarray(completion.ids, np.int32)])
            tokens_NT[n, : sizes[n]], targets_NT[n, : sizes[n]] = ids[:-1], ids[1:]
            weights_NT[n, len(prompt) - 1 : sizes[n]] = 1
        return {"tokens": tokens_NT, "targets": targets_NT, "weights": weights_NT}


@dataclass(frozen=True)
class Writer:
    """How a policy writes: ``config.sample``, whose completions end where the context does."""

    config: Config
    tokenizer: Tokenizer
    sampling: Sampling

    @staticmethod
    def of(config: Config, decoder: Decoder, tokenizer: Tokenizer) -> "Writer":
        return Writer(config, tokenizer, of_config(config.sample, vocabulary(decoder, config.sample, tokenizer)))

    def write(
        self, decoder: Decoder, prompts: Iterable[np.ndarray], rows: Iterable[Row], seeds: Sequence[int], greedy=False
    ) -> Written:
        """A completion of each prompt.

        Args:
          greedy: the likeliest tokens, whatever the temperature is.
        """
        prompts = list(prompts)
        room = [min(self.config.sample.max_new_tokens, self.config.model.context - len(ids)) for ids in prompts]
        sampling = Sampling(greedy=True, stop_ids=self.sampling.stop_ids) if greedy else self.sampling
        found = decoder.generate(
            [ids.tolist() for ids in prompts],
            max_new_tokens=room,
            sampling=sampling,
            seeds=seeds,
            rows=self.config.sample.rows,
        )
        completions = [self._completion(row, ids) for row, ids in zip(rows, found.tokens, strict=True)]
        return Written(prompts, found.logprobs, completions)

    def _completion(self, row: Row, ids: list[int]) -> Completion:
        ended = bool(ids) and ids[-1] in self.sampling.stop_ids
        return Completion(row, self.tokenizer.decode(ids[:-1] if ended else ids), ids, ended)


def seeds(seed: int, *numbers: int, count: int) -> list[int]:
    """Seeds of the rows of a rollout."""
    return np.random.SeedSequence([folded(seed), *numbers]).generate_state(count).tolist()
