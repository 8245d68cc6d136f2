"""Settings of XLA and of the C library that have to be made before JAX is used."""

import ctypes
import os

# Of the fusions around matrix products that XLA's CPU backend makes by default, those of the backward pass transpose
# and copy their operands; without them a training step takes 7 to 15% less time, and with those of reductions, which are
# left, another 9% (docs/performance.md).
CPU_FLAGS = ("--xla_cpu_experimental_ynn_fusion_type=LIBRARY_FUSION_TYPE_REDUCE",)

# Of a training step on a GPU. cuBLAS's products add biases by themselves, Triton's do not; and what XLA joins to one product
# it has to cut apart again (docs/performance.md).
GPU_OPTIONS = {"xla_gpu_enable_triton_gemm": False, "xla_gpu_dot_merger_threshold_mb": 0}

# What mallopt(3) sets, by its numbers in malloc.h. glibc takes arrays above 32 MiB from the kernel and gives them back
# when they are freed: a training step would have every page of its activations cleared anew (docs/performance.md).
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
EVERYTHING = -1  # as mallopt(3) says: no trimming at all


def tune() -> None:
    """Adds the flags to XLA_FLAGS, except those that the user has set there, and lets malloc keep what is freed, unless
    the environment sets MALLOC_MMAP_MAX_ or MALLOC_TRIM_THRESHOLD_."""
    given = os.environ.get("XLA_FLAGS", "").split()
    names = {flag.partition("=")[0] for flag in given}
    added = [flag for flag in CPU_FLAGS if flag.partition("=")[0] not in names]
    os.environ["XLA_FLAGS"] = " ".join([*given, *added])
    keep_freed_memory()


def step_options(platform: str) -> dict[str, bool | int] | None:
    """XLA's options for a training step, except those that the user has set in XLA_FLAGS; None where there are none."""
    if platform != "gpu":
        return None
    given = {flag.partition("=")[0] for flag in os.environ.get("XLA_FLAGS", "").split()}
    return {name: value for name, value in GPU_OPTIONS.items() if f"--{name}" not in given}


def keep_freed_memory() -> None:
    """Where the C library is glibc; others have no mallopt and are left as they are."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None or {"MALLOC_MMAP_MAX_", "MALLOC_TRIM_THRESHOLD_"} & set(os.environ):
        return
    mallopt(M_MMAP_MAX, 0)
    mallopt(M_TRIM_THRESHOLD, EVERYTHING)
