"""How XLA compiles in tests: quickly, as most of their time is compilation, of small programs that run once."""

from importlib import metadata

QUICK = [
    "--xla_backend_optimization_level=0",
    "--xla_llvm_disable_expensive_passes=true",
    # With few cores behind many devices, a collective may wait longer for its last participant than the 40 s after
    # which XLA ends the process.
    "--xla_cpu_collective_call_terminate_timeout_seconds=600",
]
# The emitters of fusions take most of the time to compile; later versions have no others, and abort at this flag.
if tuple(map(int, metadata.version("jaxlib").split(".")[:2])) < (0, 11):
    QUICK.append("--xla_cpu_use_fusion_emitters=false")


def flags(devices: int = 1) -> str:
    """XLA_FLAGS for that many virtual devices."""
    return " ".join([f"--xla_force_host_platform_device_count={devices}", *QUICK])
