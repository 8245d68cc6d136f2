"""What a server counts of itself, in the text format of Prometheus (version 0.0.4)."""

import threading
from bisect import bisect_left
from collections.abc import Callable

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
Labels = tuple[tuple[str, str], ...]
COUNTERS = {
    "requests_total": "Requests that were answered, by route and status.",
    "prompt_tokens_total": "Tokens of prompts that were read.",
    "completion_tokens_total": "Tokens that were written.",
    "hang_ups_total": "Requests whose client hung up before the answer was complete.",
    "filter_actions_total": "Times that the content filter acted, by rule and side.",
}
HISTOGRAMS = {
    "request_seconds": "From a request's arrival to the end of its answer, by route.",
    "first_token_seconds": "From a text's arrival to its first token.",
}


class Metrics:
    """Counters, histograms, and gauges that are asked when they are printed. Any thread may count."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counters: dict[tuple[str, Labels], float] = {}
        self._histograms: dict[tuple[str, Labels], list[float]] = {}  # a count for each bound and beyond, and the sum
        self._gauges: dict[str, tuple[str, Callable[[], dict[Labels, float]]]] = {}

    def count(self, name: str, amount: float = 1, **labels: str) -> None:
        """Adds to one of ``COUNTERS``."""
        key = (name, tuple(sorted(labels.items())))
        with self._lock:
            self._counters[key] = self._counters[key] + amount if key in self._counters else amount

    def observe(self, name: str, seconds: float, **labels: str) -> None:
        """Adds to one of ``HISTOGRAMS``."""
        key = (name, tuple(sorted(labels.items())))
        with self._lock:
            counts = self._histograms.setdefault(key, [0.0] * (len(SECONDS) + 2))
            counts[bisect_left(SECONDS, seconds)] += 1
            counts[-1] += seconds

    def gauge(self, name: str, what: str, value: Callable[[], dict[Labels, float]]) -> None:
        """``value``: what it is now, by labels."""
        self._gauges[name] = (what, value)

    def text(self) -> str:
        with self._lock:
            counters = dict(self._counters)
            histograms = {key: list(counts) for key, counts in self._histograms.items()}
        lines: list[str] = []
        for name, what in COUNTERS.items():
            lines += _head(name, what, "counter")
            lines += [_line(of, labels, value) for (of, labels), value in sorted(counters.items()) if of == name]
        for name, (what, value) in self._gauges.items():
            lines += _head(name, what, "gauge")
            lines += [_line(name, labels, number) for labels, number in sorted(value().items())]
        for name, what in HISTOGRAMS.items():
            lines += _head(name, what, "histogram")
            for (of, labels), counts in sorted(histograms.items()):
                lines += _histogram(name, labels, counts) if of == name else []
        return "\n".join(lines) + "\n"


def _head(name: str, what: str, kind: str) -> list[str]:
    return [f"# HELP gpt_jax_{name} {what}", f"# TYPE gpt_jax_{name} {kind}"]


def _line(name: str, labels: Labels, value: float) -> str:
    inner = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels)
    return f"gpt_jax_{name}{{{inner}}} {value:.10g}" if inner else f"gpt_jax_{name} {value:.10g}"


def _histogram(name: str, labels: Labels, counts: list[float]) -> list[str]:
    lines, so_far = [], 0.0
    for bound, count in zip((*map(str, SECONDS), "+Inf"), counts, strict=False):
        so_far += count
        lines.append(_line(f"{name}_bucket", (*labels, ("le", bound)), so_far))
    return [*lines, _line(f"{name}_sum", labels, counts[-1]), _line(f"{name}_count", labels, so_far)]


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
