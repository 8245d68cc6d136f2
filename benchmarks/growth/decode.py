"""What a token costs as a text grows, as settings differ by row, and with top-p: three ratios that should be near 1.

    python -m benchmarks.growth.decode [--shape gpt2-124M] [--new 1024] [--settings 100] [--rounds 5]

length: time per token of one row in parts of the text, and the slope of a line through them, as a share of the first part
for every 1024 tokens. sweep: as many rows with a setting each (temperature, top-k, top-p) beside as many with the same, and
how many programs the sweep compiled. top_p: a step with top-p beside one without, at the shape's vocabulary. All in turn, in
one process. Writes results/decode_growth.json.
"""

import argparse
import dataclasses
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from benchmarks import report
from benchmarks.jax_worker import config_of
from benchmarks.shapes import SHAPES
from gpt_jax.backend import tune
from gpt_jax.model import gpt
from gpt_jax.sample import platform as platforms
from gpt_jax.sample.decode import Decoder, Sampling
from gpt_jax.sample.engine.turns import compiled
from gpt_jax.sample.knobs import sampling
from gpt_jax.sample.processors import Vocabulary

PARTS = 8  # of the text, whose tokens are timed
SHORT = 32  # tokens of a text where settings are compared


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="gpt2-124M")
    parser.add_argument("--new", type=int, default=1024, help="tokens of the text that grows")
    parser.add_argument("--settings", type=int, default=100, help="rows of the sweep")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    tune()
    shape = dataclasses.replace(SHAPES[options.shape], context=1 + max(options.new, SHORT))
    model = config_of(shape).model
    decoder = Decoder(model, jax.jit(gpt.init, static_argnums=0)(model, jax.random.key(0)))
    given = Vocabulary(model.vocab)
    results = {
        "machine": report.machine(),
        "shape": options.shape,
        "length": length(decoder, options.new, options.rounds),
        "sweep": sweep(decoder, given, options.settings, options.rounds),
        "top_p": top_p(decoder, given, options.rounds),
    }
    for name in ("length", "sweep", "top_p"):
        print(f"{name}: {results[name]}")
    print(f"wrote {report.write('decode_growth', results)}")


def length(decoder: Decoder, new: int, rounds: int) -> dict[str, Any]:
    """Seconds per token in each part of one text, the fastest of the rounds, and how much they rise."""
    every = max(1, new // PARTS)

    def parts() -> list[float]:
        stamps = [time.perf_counter()]
        asked = {"max_new_tokens": new, "sampling": Sampling(greedy=True), "seeds": [0], "every": every}
        stamps += [time.perf_counter() for _ in decoder.stream([[0]], **asked)]
        return list(np.diff(stamps) / every)

    parts()
    tokens_P = np.min([parts() for _ in range(rounds)], axis=0)[1:-1]  # the first holds the prompt, the last no call
    slope, _ = np.polyfit(np.arange(len(tokens_P)) * every, tokens_P, 1)
    return {"seconds_per_token": tokens_P.tolist(), "slope_per_1024": float(slope * 1024 / tokens_P[0])}


def sweep(decoder: Decoder, given: Vocabulary, settings: int, rounds: int) -> dict[str, Any]:
    """A batch of rows that each have a setting of their own beside one whose rows have the same."""
    grid = [
        sampling(given, temperature=0.5 + i / settings, top_k=1 + i, top_p=1 - 0.5 * i / settings)
        for i in range(settings)
    ]
    one = sampling(given, temperature=0.8, top_k=50, top_p=0.9)
    before = programs()
    turns = {"sweep": written(decoder, grid), "one": written(decoder, [one] * settings)}
    turns["sweep"]()
    compiled = programs() - before
    times = report.interleave(turns, rounds)
    return {"programs": compiled, "ratio": min(times["sweep"]) / min(times["one"])}


def top_p(decoder: Decoder, given: Vocabulary, rounds: int) -> dict[str, Any]:
    """A row that is drawn with top-p beside one without."""
    turns = {
        "top_p": written(decoder, [sampling(given, top_p=0.9)]),
        "plain": written(decoder, [Sampling()]),
    }
    for turn in turns.values():
        turn()
    times = report.interleave(turns, rounds)
    return {"vocab": given.size, "ratio": min(times["top_p"]) / min(times["plain"])}


def written(decoder: Decoder, settings: list[Sampling]) -> Callable[[], float]:
    """Seconds of a short text a setting."""
    asked = {"max_new_tokens": SHORT, "sampling": settings, "seeds": range(len(settings))}

    def turn() -> float:
        start = time.perf_counter()
        decoder.generate([[0]] * len(settings), **asked)
        return time.perf_counter() - start

    return turn


def programs() -> int:
    """How many programs of the loop have been compiled."""
    return compiled(platforms.of(jax.default_backend()), True)[1]._cache_size()


if __name__ == "__main__":
    main()
