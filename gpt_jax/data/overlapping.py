"""Windows that overlap, for evaluation: every target counts once, in the window that has the most before it."""

import numpy as np

from gpt_jax.data.windows import Batch, TokenWindows, Windows
from gpt_jax.errors import UserError

WHERE = "config.eval.stride, config.train.eval_stride"


class Overlapping:
    """See ``Windows``. Windows of T tokens begin ``stride`` apart, and the last of them ends with the split.

    All targets of the first window count, and of every other one those that no earlier window has: each after at least
    T - ``stride`` tokens of its window. Their number is that of the split's tokens but the first, whatever the stride.
    """

    options, slack = 1, 0

    def __init__(self, windows: TokenWindows, stride: int):
        self._windows, self._stride = windows, stride
        self._last = windows.tokens - 1 - windows.context  # where the last window begins
        self.tokens = windows.tokens
        self.count = self.in_order = 1 + -(-self._last // stride)

    def gather(self, window_B: np.ndarray, shift_B: np.ndarray) -> Batch:
        """As of ``TokenWindows``; the weights of targets that count elsewhere are 0."""
        begin_B = np.minimum(window_B * self._stride, self._last)
        fresh_B = np.where(window_B == 0, self._windows.context, begin_B - (window_B - 1) * self._stride)
        batch = self._windows.gather(np.zeros_like(window_B), begin_B + shift_B)
        place_T = np.arange(self._windows.context)
        counts_BT = place_T >= self._windows.context - fresh_B[:, None]
        return batch | {"weights": batch["weights"] * counts_BT}


def overlapping(windows: Windows, stride: int) -> Windows:
    """The windows, where the stride is 0; those of the same text that begin so many tokens apart where it is not.

    Raises:
      UserError: the windows are no parts of a text, or are not as long as the stride.
    """
    if not stride:
        return windows
    if not isinstance(windows, TokenWindows):
        raise UserError(
            "only running text has windows that can overlap, and these data are examples or a task",
            where=WHERE,
            allowed="0",
        )
    if stride > windows.context:
        raise UserError(
            f"windows of {windows.context} tokens that begin {stride} apart would leave tokens out",
            where=f"{WHERE}, config.model.context",
            allowed=f"0 to {windows.context}",
        )
    return Overlapping(windows, stride)
