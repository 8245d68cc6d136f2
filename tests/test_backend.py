"""What is freed stays with the process, and what the user set in the environment stays as it is."""

import ctypes
import os
import subprocess
import sys

FAULTS = """
import resource
from gpt_jax import backend
backend.tune()
x = b"x"
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
x * (128 << 20)
before = faults()
x * (128 << 20)
print(faults() - before)
"""
PROGRAM_FAULTS = """
import resource
import jax, jax.numpy as jnp
from gpt_jax import backend
from gpt_jax.mesh.processes import start_processes
backend.tune()
start_processes()
wide = jax.jit(lambda a, b: (a @ b) @ b.T)  # 128 MiB between the products
a, b = jnp.ones((16384, 16)), jnp.ones((16, 2048))
for _ in range(2):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    wide(a, b).block_until_ready()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
FLAGS = "import os; from gpt_jax import backend; backend.tune(); print(os.environ['XLA_FLAGS'])"


def run(program: str, **environment: str) -> str:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "XLA_", "JAX_CPU_"))}
    done = subprocess.run([sys.executable, "-c", program], env=clean | environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_freed_arrays_are_used_again():
    """A C library without mallopt is left as it is, and that is no error."""
    kept, given_back = int(run(FAULTS)), int(run(FAULTS, MALLOC_MMAP_MAX_="65536"))
    if hasattr(ctypes.CDLL(None), "mallopt"):
        pages = (128 << 20) // os.sysconf("SC_PAGE_SIZE")
        assert kept < pages / 100 and given_back > pages / 2


def test_a_program_uses_its_memory_again():
    kept, given_back = int(run(PROGRAM_FAULTS)), int(run(PROGRAM_FAULTS, JAX_CPU_ENABLE_ASYNC_DISPATCH="true"))
    if hasattr(ctypes.CDLL(None), "mallopt"):
        pages = (128 << 20) // os.sysconf("SC_PAGE_SIZE")
        assert kept < pages / 100 and given_back > pages / 2


def test_flags_of_the_user_stay():
    assert run(FLAGS).split() == ["--xla_cpu_experimental_ynn_fusion_type=LIBRARY_FUSION_TYPE_REDUCE"]
    given = "--xla_dump_to=x --xla_cpu_experimental_ynn_fusion_type=LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT"
    assert run(FLAGS, XLA_FLAGS=given).split() == given.split()


STEP = "from gpt_jax import backend; print(backend.step_options('gpu'), backend.step_options('cpu'))"


def test_options_of_a_step_on_a_gpu():
    assert run(STEP).strip() == "{'xla_gpu_enable_triton_gemm': False, 'xla_gpu_dot_merger_threshold_mb': 0} None"
    assert "triton" not in run(STEP, XLA_FLAGS="--xla_gpu_enable_triton_gemm=true --xla_dump_to=x")
