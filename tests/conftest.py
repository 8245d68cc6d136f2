"""Settings that have to be in the environment before anything imports JAX; subprocesses of tests inherit them."""

import os
from pathlib import Path

import pytest

VIRTUAL_DEVICES = 8

# With few cores behind eight devices, a collective may wait longer for its last participant than the 40 s after which
# XLA ends the process.
os.environ["XLA_FLAGS"] = " ".join(
    [
        os.environ.get("XLA_FLAGS", ""),
        f"--xla_force_host_platform_device_count={VIRTUAL_DEVICES}",
        "--xla_cpu_collective_call_terminate_timeout_seconds=600",
        # Most of the tests' time is compilation, of small programs that run once.
        "--xla_backend_optimization_level=0",
        "--xla_llvm_disable_expensive_passes=true",
    ]
).strip()
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).resolve().parents[1] / ".cache" / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")


MAPPINGS = Path("/proc/self/maps")
MOST_MAPPINGS = 25_000


@pytest.fixture(autouse=True)
def _programs_are_dropped():
    """Compiled programs are dropped when there are many: each maps memory of its own, and beyond vm.max_map_count, often
    65,530 places, the compiler aborts the process."""
    yield
    if MAPPINGS.exists() and MAPPINGS.read_bytes().count(b"\n") > MOST_MAPPINGS:
        import jax

        jax.clear_caches()
