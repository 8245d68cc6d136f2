"""The numbers of the progress line, by a clock that the test holds, and what a terminal and a file see of it."""

import fcntl
import io
import os
import re
import select
import struct
import termios

import pytest

from gpt_jax.model.flops import Peak
from gpt_jax.train.record.progress import WINDOW, Progress, duration, quantity

PEAK = Peak(flops=2e6, source="a data sheet", measured=False)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def progress(total: int = 100, start: int = 0, peak: Peak | None = PEAK, stream=None) -> tuple[Progress, Clock]:
    """100 tokens a step, 1000 FLOPs a token."""
    clock = Clock()
    return Progress(total, start, 100, 1e3, peak, stream or io.StringIO(), clock), clock


def advance(shown: Progress, clock: Clock, steps: int, seconds: float) -> None:
    for _ in range(steps):
        clock.now += seconds
        shown.update(shown.step + 1, 2.5)


def test_rate_share_and_time_left():
    shown, clock = progress()
    assert shown.tokens_per_second is shown.mfu is shown.eta is None
    advance(shown, clock, 1, 60)  # compilation
    assert shown.tokens_per_second is shown.mfu is shown.eta is None
    advance(shown, clock, 5, 0.1)
    assert shown.tokens_per_second == pytest.approx(1000)
    assert shown.mfu == pytest.approx(1000 * 1e3 / 2e6)
    assert shown.eta == pytest.approx(94 * 0.1)
    assert shown.describe() == "loss 2.5, 1.00k tokens/s, MFU 50%, ETA 9.4s"


def test_training_seconds_are_those_of_steps_alone():
    shown, clock = progress()
    advance(shown, clock, 1, 60)  # compilation
    assert shown.training_seconds == 0
    advance(shown, clock, 4, 0.1)
    with shown.pause():
        clock.now += 6
    advance(shown, clock, 5, 0.1)
    assert shown.training_seconds == pytest.approx(1.0)


def test_pauses_are_left_out_of_the_rate_and_counted_in_the_time_left():
    shown, clock = progress()
    advance(shown, clock, 3, 0.1)
    with shown.pause():
        clock.now += 6
    advance(shown, clock, 2, 0.1)
    assert shown.tokens_per_second == pytest.approx(1000)
    assert shown.eta == pytest.approx(6.4 / 4 * 95)


def test_a_pause_that_fails_is_left_out_too():
    shown, clock = progress()
    advance(shown, clock, 2, 0.1)
    with pytest.raises(KeyError), shown.pause():
        clock.now += 6
        raise KeyError
    advance(shown, clock, 1, 0.1)
    assert shown.tokens_per_second == pytest.approx(1000)


def test_the_rate_is_of_the_last_seconds():
    shown, clock = progress(1000)
    advance(shown, clock, 20, 1)
    assert shown.tokens_per_second == pytest.approx(100)
    advance(shown, clock, round(WINDOW / 0.5) + 1, 0.5)
    assert shown.tokens_per_second == pytest.approx(200)


def test_a_resumed_run_counts_from_where_it_resumes():
    shown, clock = progress(100, start=50)
    advance(shown, clock, 11, 1)
    assert shown.step == 61 and shown.tokens_per_second == pytest.approx(100) and shown.eta == pytest.approx(39)


@pytest.mark.parametrize(
    ("peak", "words"), [(None, ""), (PEAK, "MFU 5%,"), (Peak(2e6, "", True), "MFU 5% of GEMM rate,")]
)
def test_a_measured_peak_is_called_that(peak, words):
    shown, clock = progress(peak=peak)
    shown.compiled(4.1)
    advance(shown, clock, 3, 1)
    assert words in shown.describe() and ("MFU" in shown.describe()) == bool(words)
    assert shown.describe().endswith(", compile 4.1s")


@pytest.mark.parametrize(("total", "start"), [(1000, 0), (1000, 505), (7, 0)])
def test_a_file_gets_the_first_step_every_tenth_and_the_last(total, start):
    stream = io.StringIO()
    shown, clock = progress(total, start, stream=stream)
    advance(shown, clock, total - start, 0.1)
    shown.note("validation 2.0")
    shown.close()
    *lines, last = stream.getvalue().splitlines()
    tenths = {-(-total * i // 10) for i in range(1, 11)}
    expected = sorted({start + 1} | {step for step in tenths if step > start})
    assert [int(re.match(rf"step (\d+)/{total}, loss 2.5", line)[1]) for line in lines] == expected
    assert last == "validation 2.0" and "\r" not in stream.getvalue()


def test_a_terminal_gets_one_line_that_is_redrawn():
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 90, 0, 0))
    with open(theirs, "w") as stream:
        shown, clock = progress(20, stream=stream)
        advance(shown, clock, 5, 1)
        advance(shown, clock, 4, 0.001)  # too soon to draw again
        shown.note("validation 2.0")
        clock.now += 1
        shown.update(10, 2.25)
        shown.close()
        seen = b""
        while select.select([ours], [], [], 0.2)[0]:
            seen += os.read(ours, 1 << 12)
    os.close(ours)
    text = seen.decode()
    drawn = [int(n) for n in re.findall(r"(\d+)/20", text)]
    assert set(drawn) == {0, 1, 2, 3, 4, 5, 10} and drawn[-1] == 10
    assert re.search(r"\r 50%\|[^|]+\| 10/20, loss 2.25, \S+ tokens/s, MFU \d+%, ETA ", text)
    assert text.count("\rvalidation 2.0\r\n") == 1
    assert text.count("\n") == 2  # the note's, and the one that ends the bar


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.5, "0.5"), (950, "950"), (999.6, "1.00k"), (1234, "1.23k"), (124_439_808, "124M"), (1.5576e9, "1.56B")]
    + [(3e14, "300T"), (2.5e15, "2.50e+15"), (3.14e23, "3.14e+23")],
)
def test_quantities(value, text):
    assert quantity(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0s"), (4.2, "4.2s"), (9.96, "10s"), (59.4, "59s"), (59.6, "1m00s"), (192, "3m12s"), (3599.6, "1h00m")]
    + [(7500, "2h05m"), (86399.7, "1d00h"), (3 * 86400 + 4 * 3600, "3d04h")],
)
def test_durations(seconds, text):
    assert duration(seconds) == text
