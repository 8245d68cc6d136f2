"""Batches of the data, whatever the state is."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gpt_jax.data.batches import InOrder, Shuffled
from gpt_jax.mesh import mesh as meshes
from gpt_jax.train.evaluate import coverage, evaluate
from gpt_jax.train.objectives import Batch
from gpt_jax.train.run import Run
from gpt_jax.train.step import State, read_params


@dataclass
class Corpus:
    """See ``feeds.Feed``."""

    run: Run
    every, waits = 1, False

    @functools.cached_property
    def _batches(self) -> Shuffled:
        return self.run.data.train.batches(self.run.config.train.batch, self.run.config.data.seed)

    @property
    def _fixed(self) -> InOrder:
        return self.run.validation

    def batch(self, k: int, state: State) -> tuple[Batch, dict[str, float]]:
        mine = meshes.my_rows(self.run.mesh, self.run.config.train.batch)
        return meshes.put_batch(self._batches.rows(k, *mine), self.run.mesh), {}

    def evaluate(self, state: State, step: int | None, stop: Callable[[], bool]) -> dict[str, float] | None:
        return evaluate(self.run, read_params(state), self._fixed, stop)

    def covered(self) -> str:
        return coverage(self._fixed, "train.eval_batches")

    def notes(self) -> dict[str, Any]:
        return {}
