"""Decoding with GPT-2 124M on a GPU, in bfloat16."""

import functools
import statistics
import time
from typing import Any

import jax
import numpy as np

from benchmarks.gpu.pieces import Parts, Task
from benchmarks.gpu.steps import config_of
from gpt_jax.model import gpt
from gpt_jax.sample.decode import Decoder, Sampling
from gpt_jax.sample.knobs import sampling
from gpt_jax.sample.processors import Vocabulary

GREEDY = Sampling(greedy=True)
PARTS = {
    "greedy, batch 1": (1, GREEDY),
    "greedy, batch 8": (8, GREEDY),
    "greedy, batch 64": (64, GREEDY),
    "drawn, batch 8": (8, Sampling()),
    "drawn of the top 50, batch 8": (8, sampling(Vocabulary(50257), top_k=50)),
}
PROMPT, NEW = 16, 128  # tokens
WARM, ROUNDS = 3, 5


def decode(task: Task) -> Parts:
    config = config_of(task, "124m", 16).model
    new = 16 if task.toy else NEW
    for label, (batch, drawn) in PARTS.items():
        if not task.toy or batch < 64:
            yield label, functools.partial(measure, config, batch, new, drawn)


def measure(config: Any, batch: int, new: int, sampling: Sampling) -> dict[str, Any]:
    """Time of a token after the first, and of the prompt with the first."""
    decoder = Decoder(config, jax.jit(gpt.init, static_argnums=0)(config, jax.random.key(0)))
    prompts = np.random.default_rng(0).integers(config.vocab, size=(batch, PROMPT)).tolist()

    def generate() -> tuple[float, float]:
        """Seconds of a generation of one token, and of a whole one."""
        asked = dict(sampling=sampling, seeds=[0] * batch)
        start = time.perf_counter()
        decoder.generate(prompts, max_new_tokens=1, **asked)
        first = time.perf_counter()
        written = decoder.generate(prompts, max_new_tokens=new, **asked)
        end = time.perf_counter()
        if any(len(row) != new for row in written.tokens):
            raise RuntimeError("the generation ended early")
        return first - start, end - first

    start = time.perf_counter()
    generate()
    compiling = time.perf_counter() - start
    for _ in range(WARM):
        generate()
    times = [generate() for _ in range(ROUNDS)]
    prefill, whole = (statistics.median(column) for column in zip(*times, strict=True))
    token = (whole - prefill) / (new - 1)
    return {
        "ms_per_token": 1e3 * token,
        "tokens_per_second": batch / token,
        "prefill_ms": 1e3 * prefill,
        "generation_ms": 1e3 * whole,
        "first_call_s": compiling,
        "batch": batch,
        "new": new,
        "device": jax.devices()[0].device_kind,
        "rounds_ms": [1e3 * t for _, t in times],
    }
