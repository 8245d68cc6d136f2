"""Windows of prompts, which a policy answers."""

from collections.abc import Sequence

import numpy as np

from gpt_jax.data.examples import Row
from gpt_jax.data.windows import Batch


class PromptWindows:
    """See ``Windows``. A batch has "prompt", the ids of each, "row" [B], both of objects, and "weights" [B, 1]."""

    slack, options = 0, 1

    def __init__(self, prompts: Sequence[np.ndarray], rows: Sequence[Row]):
        self.count = self.in_order = len(prompts)
        self.tokens = sum(map(len, prompts))
        self.longest = max(map(len, prompts), default=0)
        self._prompts, self._rows = prompts, rows

    def gather(self, window_B: np.ndarray, shift_B: np.ndarray) -> Batch:
        batch = {name: np.empty(len(window_B), object) for name in ("prompt", "row")}
        for b, window in enumerate(window_B):
            batch["prompt"][b], batch["row"][b] = self._prompts[window], self._rows[window]
        return {**batch, "weights": np.ones((len(window_B), 1), np.float32)}
