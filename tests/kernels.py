"""Compiles every attention backend, forward and backward, for devices that are not at hand.

    python -m tests.kernels gpu      # for an H100; needs requirements/gpu.txt
    python -m tests.kernels tpu      # for a TPU v5e; needs requirements/tpu.txt

Prints a table; exits with 1 if a backend that says it can does not compile. `make kernels` does both. Numbers are
another matter: tests/model/test_attend.py runs the kernels interpreted.
"""

import contextlib
import os
import sys
import time

# A host without the device compiles for it through a description of its topology.
os.environ.update(JAX_PLATFORMS="cpu", TPU_WORKER_HOSTNAMES="localhost", TPU_SKIP_MDS_QUERY="1")

import jax
from jax.experimental import topologies
from jax.sharding import AbstractDevice, AbstractMesh, Mesh, NamedSharding, PartitionSpec

from gpt_jax import registry
from gpt_jax.errors import UserError
from gpt_jax.model.attend import AttentionSpec, Backend, backend
from tests.model.attended import SPECS, gradient, shapes

H100 = """
platform_name: "CUDA"
device_description_str: "NVIDIA H100 80GB HBM3"
dnn_version_info { major: 9 minor: 8 patch: 0 }
gpu_device_info {
  threads_per_block_limit: 1024 threads_per_warp: 32 threads_per_core_limit: 2048
  shared_memory_per_block: 49152 shared_memory_per_core: 233472 shared_memory_per_block_optin: 232448
  core_count: 132 fpus_per_core: 128 clock_rate_ghz: 1.98
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  memory_bandwidth: 3352320000000 l2_cache_size: 52428800 device_memory_size: 84978434048
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
  cuda_compute_capability { major: 9 minor: 0 }
}
"""
TARGETS = {
    "gpu": dict(platform="cuda", target_config=H100, topology="1x1x1"),
    "tpu": dict(platform="tpu", topology_name="v5e:2x2"),
}


def pretending(platform: str):
    """A context in which Triton kernels are lowered for an H100 where there is no GPU to ask, as JAX 0.12 wants to."""
    if platform != "cuda":
        return contextlib.nullcontext()
    device = AbstractDevice("NVIDIA H100 80GB HBM3", 132, "gpu")
    return jax.sharding.use_abstract_mesh(AbstractMesh((1,), ("x",), abstract_device=device))


def main(target: str) -> int:
    try:
        devices = topologies.get_topology_desc(**TARGETS[target]).devices
    except (RuntimeError, ValueError) as error:
        print(f"no compiler for {target}: {error}\ninstall requirements/{target}.txt", file=sys.stderr)
        return 2
    sharding = NamedSharding(Mesh(devices[:1], ("x",)), PartitionSpec())
    print(f"| backend, compiled for {devices[0].device_kind} | dtype | " + " | ".join(SPECS) + " | packed |")
    print("|---" * (len(SPECS) + 3) + "|")
    failures = 0
    for name in registry.names("model.attend"):
        for dtype in ("bfloat16", "float32"):
            if name in ("auto", "reference") or backend(name).refusal(frozenset(), target, dtype):
                continue
            row = [compiled(backend(name), spec, False, target, dtype, sharding) for spec in SPECS.values()]
            row.append(compiled(backend(name), SPECS["causal"], True, target, dtype, sharding))
            failures += sum("FAILED" in cell for cell in row)
            print(f"| `{name}` | {dtype} | " + " | ".join(row) + " |", flush=True)
    return int(failures > 0)


def compiled(chosen: Backend, spec: AttentionSpec, packed: bool, target: str, dtype: str, sharding) -> str:
    """Seconds to compile, "refused", or what went wrong."""
    if chosen.refusal(spec.features | ({"segments"} if packed else set()), target, dtype):
        return "refused"
    start = time.perf_counter()
    try:
        jax.jit(gradient(chosen, spec, packed)).lower(*shapes(dtype, sharding)).compile()
    except UserError:
        raise
    except Exception as error:
        return f"FAILED: {str(error).splitlines()[0][:80]}"
    return f"{time.perf_counter() - start:.1f} s"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
