"""The attention core by backend and length on this machine: forward and backward, time and memory.

    python -m benchmarks.attention            # writes benchmarks/results/attention.json
    python -m benchmarks.table docs/performance.md

On a GPU `--backends cudnn pallas xla chunked` are those of interest.
"""

import argparse
import functools
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks import report
from benchmarks.worker import seconds
from gpt_jax import backend
from gpt_jax.errors import UserError
from gpt_jax.model.attend import AttentionSpec, attend
from gpt_jax.model.where import Where

BATCH, HEADS, HEAD_DIM = 1, 8, 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backends", nargs="+", default=["xla", "chunked", "reference"])
    parser.add_argument("--lengths", nargs="+", type=int, default=[256, 1024, 2048, 4096, 8192])
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    backend.tune()
    results: dict[str, Any] = {"machine": report.machine(), "shape": [BATCH, HEADS, HEAD_DIM], "dtype": options.dtype}
    results["lengths"] = {t: measure(t, options.backends, options.dtype, options.rounds) for t in options.lengths}
    print(f"wrote {report.write('attention', results)}")


def measure(length: int, backends: list[str], dtype: str, rounds: int) -> dict[str, Any]:
    """Backend -> seconds of a forward and backward pass, and bytes of temporaries; a refusal in place of both."""
    found: dict[str, Any] = {}
    turns = {}
    for name in backends:
        try:
            step, memory = compiled(name, length, dtype)
        except UserError as refusal:
            found[name] = {"refused": refusal.what}
            continue
        step()
        turns[name] = functools.partial(seconds, step)
        found[name] = {"temporaries": memory}
    for name, times in report.interleave(turns, rounds).items():
        found[name]["seconds"] = report.summary(times)
        median, memory = found[name]["seconds"]["median"], found[name]["temporaries"]
        print(f"T {length} {name}: {1e3 * median:.1f} ms, {memory / 2**20:.0f} MiB", flush=True)
    return found


def compiled(name: str, length: int, dtype: str):
    """A call that runs forward and backward and waits, and the bytes that it needs besides its arguments."""
    spec = AttentionSpec(scale=HEAD_DIM**-0.5)
    keys = jax.random.split(jax.random.key(0), 3)
    arrays = [jax.random.normal(key, (BATCH, HEADS, length, HEAD_DIM), dtype) for key in keys]

    def loss(q, k, v):
        return jnp.square(attend(name, spec, q, k, v, Where()).astype(jnp.float32)).sum()

    program = jax.jit(jax.grad(loss, argnums=(0, 1, 2))).lower(*arrays).compile()
    return lambda: jax.block_until_ready(program(*arrays)), program.memory_analysis().temp_size_in_bytes


if __name__ == "__main__":
    main()
