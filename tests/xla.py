"""How XLA compiles in tests: quickly, as most of their time is compilation, of small programs that run once."""

import functools
import os
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata

from gpt_jax.backend import CPU_FLAGS

QUICK = [
    *CPU_FLAGS,
    "--xla_backend_optimization_level=0",
    "--xla_llvm_disable_expensive_passes=true",
    # By default a program is cut into 32 modules for as many threads; cutting costs a quarter of generating its code.
    "--xla_cpu_parallel_codegen_split_count=1",
    # With few cores behind many devices, a collective may wait longer for its last participant than the 40 s after
    # which XLA ends the process.
    "--xla_cpu_collective_call_terminate_timeout_seconds=600",
]
OLDER = "--xla_cpu_use_fusion_emitters=false"
AS_USERS = "TESTS_COMPILE_FUSIONS_AS_USERS"
# The emitters of fusions take most of the time to compile; later versions have no others, and abort at this flag.
if tuple(map(int, metadata.version("jaxlib").split(".")[:2])) < (0, 11) and AS_USERS not in os.environ:
    QUICK.append(OLDER)


def flags(devices: int = 1) -> str:
    """XLA_FLAGS for that many virtual devices."""
    return " ".join([f"--xla_force_host_platform_device_count={devices}", *QUICK])


def as_users(test: Callable[[], None]) -> Callable[[], None]:
    """Runs a test with the emitters that users have, in a process of its own: for bits that others round otherwise."""

    @functools.wraps(test)
    def run():
        if OLDER not in QUICK:
            return test()
        name = f"{test.__code__.co_filename}::{test.__name__}"
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", name]
        child = subprocess.run(
            command, env=os.environ | {AS_USERS: "1", "XLA_FLAGS": ""}, capture_output=True, text=True, timeout=300
        )
        assert child.returncode == 0 and "1 passed" in child.stdout, child.stdout + child.stderr

    return run
