"""The attention core by backend and length on this machine: forward and backward, time and memory.

    python -m benchmarks.attention            # writes benchmarks/results/attention.json, or attention_gpu.json
    python -m benchmarks.table docs/performance.md

``torch`` among the backends is PyTorch's scaled_dot_product_attention, the peer on a GPU.
"""

import argparse
import functools
import os
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks import report
from benchmarks.worker import seconds
from gpt_jax import backend
from gpt_jax.errors import UserError
from gpt_jax.mesh import processes
from gpt_jax.model.attend import AttentionSpec, attend
from gpt_jax.model.where import Where

HEADS, HEAD_DIM = 8, 64
ON_CPU, ON_GPU = ("causal", "xla", "blockwise", "reference"), ("cudnn", "pallas", "xla", "blockwise", "torch")
PEER = "torch"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    on_gpu = bool(report.gpu())
    parser.add_argument("--backends", nargs="+", default=ON_GPU if on_gpu else ON_CPU)
    parser.add_argument("--lengths", nargs="+", type=int, default=[256, 1024, 2048, 4096, 8192])
    parser.add_argument("--batch", type=int, default=8 if on_gpu else 1)
    parser.add_argument("--dtype", default="bfloat16" if on_gpu else "float32")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    backend.tune()
    processes.start_processes()
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"  # the peer wants memory too
    shape = [options.batch, HEADS, HEAD_DIM]
    results: dict[str, Any] = {"machine": report.machine(), "shape": shape, "dtype": options.dtype}
    results["lengths"] = {t: measure(t, options) for t in options.lengths}
    print(f"wrote {report.write('attention', results)}")


def measure(length: int, options: argparse.Namespace) -> dict[str, Any]:
    """Backend -> seconds of a forward and backward pass, and bytes of temporaries; a refusal in place of both."""
    found: dict[str, Any] = {}
    turns = {}
    shape = (options.batch, HEADS, length, HEAD_DIM)
    for name in options.backends:
        make = peer if name == PEER else functools.partial(compiled, name)
        try:
            step, memory = make(shape, options.dtype)
        except UserError as refusal:
            found[name] = {"refused": refusal.what}
            continue
        step()
        turns[name] = functools.partial(seconds, step)
        found[name] = {"temporaries": memory}
    for name, times in report.interleave(turns, options.rounds).items():
        found[name]["seconds"] = report.summary(times)
        print(f"T {length} {name}: {1e3 * found[name]['seconds']['median']:.2f} ms", flush=True)
    return found


def compiled(name: str, shape: tuple[int, ...], dtype: str) -> tuple[Callable[[], object], int]:
    """A call that runs forward and backward and waits, and the bytes that it needs besides its arguments."""
    spec = AttentionSpec(scale=HEAD_DIM**-0.5)
    keys = jax.random.split(jax.random.key(0), 3)
    arrays = [jax.random.normal(key, shape, dtype) for key in keys]

    def loss(q, k, v):
        return jnp.square(attend(name, spec, q, k, v, Where()).astype(jnp.float32)).sum()

    program = jax.jit(jax.grad(loss, argnums=(0, 1, 2))).lower(*arrays).compile()
    return lambda: jax.block_until_ready(program(*arrays)), program.memory_analysis().temp_size_in_bytes


def peer(shape: tuple[int, ...], dtype: str) -> tuple[Callable[[], object], int]:
    """The same by PyTorch, on a GPU."""
    import torch
    from torch.nn import functional

    kind = getattr(torch, dtype)
    arrays = [torch.randn(*shape, device="cuda", dtype=kind, requires_grad=True) for _ in range(3)]

    def step() -> None:
        y = functional.scaled_dot_product_attention(*arrays, is_causal=True)
        torch.autograd.grad(y.float().square().sum(), arrays)
        torch.cuda.synchronize()

    step()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    step()
    return step, torch.cuda.max_memory_allocated() - before


if __name__ == "__main__":
    main()
