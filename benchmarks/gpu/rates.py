"""What the chip does at most: matrix products and copies, the bounds of everything else."""

import functools
import subprocess
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks import report
from benchmarks.gpu.pieces import Parts, Task
from benchmarks.worker import seconds
from gpt_jax.model import flops

# Rows, inner and columns: a square product, then those of GPT-2 124M at batch 16: mlp forward, its weight gradient, logits.
PRODUCTS = ((8192, 8192, 8192), (16384, 768, 3072), (768, 16384, 3072), (16384, 768, 50304))
TOYS = ((256, 256, 256), (256, 64, 256))
AT_ONCE = 20  # calls in the GPU's queue while the time is taken
COPIED = 2**28  # floats, 1 GiB: far beyond any cache


def product(task: Task) -> Parts:
    yield "device", device
    for sizes in TOYS if task.toy else PRODUCTS:
        yield "x".join(map(str, sizes)), functools.partial(gemm, *sizes)
    yield "copy", functools.partial(copy, 2**16 if task.toy else COPIED)


def device() -> dict[str, Any]:
    """What the figures are taken on, by JAX and by NVIDIA's own tool."""
    first = jax.devices()[0]
    found: dict[str, Any] = {"kind": first.device_kind, "count": jax.device_count(), "platform": first.platform}
    found["memory_gib"] = (first.memory_stats() or {}).get("bytes_limit", 0) / 2**30
    found["version"] = " ".join(first.client.platform_version.split())
    if report.gpu():
        for name in ("driver_version", "clocks.max.sm", "clocks.max.memory", "power.limit"):
            asked = ["nvidia-smi", f"--query-gpu={name}", "--format=csv,noheader"]
            lines = subprocess.run(asked, capture_output=True, text=True, timeout=20).stdout.splitlines()
            found[name] = lines[0].strip() if lines else ""
    return found


def gemm(rows: int, inner: int, columns: int) -> dict[str, Any]:
    """Rate of a bfloat16 product of random matrices: with zeros the chip draws less power and clocks higher."""
    draw = jax.jit(jax.random.normal, static_argnums=(1, 2))
    a, b = (draw(jax.random.key(k), size, "bfloat16") for k, size in enumerate(((rows, inner), (inner, columns))))
    rate = 2 * rows * inner * columns / _seconds(functools.partial(jax.jit(jnp.matmul), a, b))
    peak = flops.peak(jax.devices()[:1])
    return {"tflops": rate / 1e12, "share_of_peak": rate / peak.flops if peak else None}


def copy(floats: int) -> dict[str, Any]:
    """Bytes read and written a second by a program that adds 1."""
    x = jax.block_until_ready(jnp.ones(floats, jnp.float32))
    return {"gb_per_second": 2 * x.nbytes / _seconds(functools.partial(jax.jit(lambda x: x + 1), x)) / 1e9}


def _seconds(call: Callable[[], jax.Array]) -> float:
    """Of one call, with enough of them under way that the host is not waited for; they run in order."""

    def several() -> None:
        for _ in range(AT_ONCE):
            y = call()
        jax.block_until_ready(y)

    several()
    return seconds(several, at_least=0.5) / AT_ONCE
