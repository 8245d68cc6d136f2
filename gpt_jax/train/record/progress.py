"""What the terminal shows of a run: one line that is redrawn, or, where the stream is no terminal, a line now and then.

    37%|███████▍            | 370/1000, loss 2.314, 41.2k tokens/s, MFU 58% of GEMM rate, ETA 1m12s, compile 4.1s

Tokens/s is over the last seconds of training proper: compilation, evaluation and saving are left out. The ETA counts
evaluation and saving in, at the pace they have had so far. MFU is as gpt_jax/model/flops.py states it; on a CPU, where
the peak is measured, the line says so.
"""

import contextlib
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import TextIO

from gpt_jax import bars
from gpt_jax.model.flops import Peak

WINDOW = 10.0  # seconds of training that tokens/s is the mean of
_REDRAW = 0.1  # seconds between two drawings of the line
_LINES = 10  # lines of a whole run, where the stream is no terminal


class Progress:
    """Counts steps and shows them.

    Args:
      total: steps of the whole run.
      start: completed steps that the run resumes from.
      tokens_per_step: global batch in sequences times context.
      flops_per_token: training FLOPs by the convention MFU is stated in.
      peak: FLOP/s of all devices, or None: no MFU is shown.
      stream: where to; None = standard error.
      clock: seconds, monotonic.
    """

    def __init__(
        self,
        total: int,
        start: int,
        tokens_per_step: int,
        flops_per_token: float,
        peak: Peak | None,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ):
        self.total, self.step, self.loss = total, start, float("nan")
        self._tokens_per_step, self._flops_per_token, self._peak = tokens_per_step, flops_per_token, peak
        self._stream, self._clock = stream or sys.stderr, clock
        self._compile = 0.0  # seconds
        self._paused = 0.0
        self._first: tuple[float, int] | None = None
        self._training = 0.0  # seconds since the first update, pauses excluded
        self._recent: deque[tuple[float, int]] = deque()
        self._drawn = -float("inf")
        self._bar = self._new_bar() if bars.watched(self._stream) else None

    def _new_bar(self):
        return bars.kind()(
            total=self.total,
            initial=self.step,
            file=self._stream,
            dynamic_ncols=True,
            mininterval=float("inf"),
            bar_format="{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt}{postfix}",
        )

    def update(self, step: int, loss: float) -> None:
        """Counts ``step`` updates as complete, the last of them with ``loss``."""
        now = self._clock()
        before, self.step, self.loss = self.step, step, loss
        self._first = self._first or (now, step)
        if self._recent:
            self._training += now - self._paused - self._recent[-1][0]
        self._recent.append((now - self._paused, step))
        while len(self._recent) > 2 and self._recent[-1][0] - self._recent[1][0] >= WINDOW:
            self._recent.popleft()
        if self._bar is not None:
            if now - self._drawn >= _REDRAW or step == self.total:
                self._drawn = now
                self._redraw()
        elif (
            step * _LINES // self.total > before * _LINES // self.total or len(self._recent) == 1 or step == self.total
        ):
            self._print(f"step {step}/{self.total}, {self.describe()}")

    def compiled(self, seconds: float) -> None:
        """Shows from now on how long compilation took, with those before it."""
        self._compile += seconds

    @contextlib.contextmanager
    def pause(self) -> Iterator[None]:
        """Leaves the time within out of tokens/s. Enter it when the metrics of the last step have been read."""
        start = self._clock()
        try:
            yield
        finally:
            self._paused += self._clock() - start

    def note(self, text: str) -> None:
        """Prints a line that stays, such as the result of an evaluation."""
        if self._bar is None:
            self._print(text)
        else:
            self._bar.write(text, file=self._stream)

    def close(self) -> None:
        """Leaves the last state of the line on the screen; may be called again."""
        if self._bar is not None:
            self._redraw()
            self._bar.close()
            self._bar = None

    @property
    def tokens_per_second(self) -> float | None:
        """Over the last ``WINDOW`` seconds of training; None before the second update."""
        if len(self._recent) < 2:
            return None
        (begin, first), (end, last) = self._recent[0], self._recent[-1]
        return (last - first) * self._tokens_per_step / (end - begin) if end > begin else None

    @property
    def training_seconds(self) -> float:
        """Seconds of this start spent on steps, without compilation, evaluation and saving; 0 before the second update.

        The first update compiles, so it counts as long as the mean of the others.
        """
        if self._first is None or self.step == self._first[1]:
            return 0.0
        others = self.step - self._first[1]
        return self._training * (others + 1) / others

    @property
    def mfu(self) -> float | None:
        """Share of the peak, 0 to 1, by the tokens/s above; None where either is not known."""
        rate = self.tokens_per_second
        return rate * self._flops_per_token / self._peak.flops if rate and self._peak else None

    @property
    def eta(self) -> float | None:
        """Seconds to the last step at the mean pace since the first one, evaluation and saving included."""
        if self._first is None or self.step == self._first[1]:
            return None
        begin, first = self._first
        return (self._clock() - begin) / (self.step - first) * (self.total - self.step)

    def describe(self) -> str:
        """Loss, tokens/s, MFU, ETA and compile seconds, as far as they are known."""
        rate, mfu, eta = self.tokens_per_second, self.mfu, self.eta
        share = f"MFU {mfu:.0%}{' of GEMM rate' if self._peak and self._peak.measured else ''}" if mfu else ""
        parts = (
            f"loss {self.loss:.4g}",
            f"{quantity(rate)} tokens/s" if rate else "",
            share,
            f"ETA {duration(eta)}" if eta else "",
            f"compile {duration(self._compile)}" if self._compile else "",
        )
        return ", ".join(part for part in parts if part)

    def _redraw(self) -> None:
        assert self._bar is not None
        self._bar.n = self.step
        self._bar.set_postfix_str(self.describe(), refresh=False)
        self._bar.refresh()

    def _print(self, text: str) -> None:
        print(text, file=self._stream, flush=True)


def quantity(value: float) -> str:
    """Three significant digits and a unit of thousands: 950, 1.23k, 124M, 1.56B, 300T; powers of ten past that."""
    scaled = value
    for unit in ("", "k", "M", "B", "T"):
        if float(f"{scaled:.3g}") < 1000:
            return f"{scaled:.3g}{unit}" if unit == "" else f"{scaled:#.3g}".rstrip(".") + unit
        scaled /= 1000
    return f"{value:.2e}"


def duration(seconds: float) -> str:
    """Seconds in the two units that matter: 4.2s, 42s, 3m12s, 2h05m, 3d04h."""
    if seconds < 9.95:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    for below, large, small, form in (
        (60, 1, 1, "{0}s"),
        (3600, 60, 1, "{0}m{1:02d}s"),
        (86400, 3600, 60, "{0}h{1:02d}m"),
    ):
        if whole < below:
            return form.format(whole // large, whole % large // small)
    return f"{whole // 86400}d{whole % 86400 // 3600:02d}h"
