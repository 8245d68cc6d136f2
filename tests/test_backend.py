"""What is freed stays with the process, and what the user set in the environment stays as it is."""

import ast
import ctypes
import os
import subprocess
import sys

import pytest

from gpt_jax import backend
from gpt_jax.config import Config
from gpt_jax.configs import base
from gpt_jax.train.step import can_be_exact

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
import resource, statistics
import jax, jax.numpy as jnp
from gpt_jax import backend
from gpt_jax.mesh.processes import start_processes
backend.tune()
start_processes()
wide = jax.jit(lambda a, b: (a @ b) @ b.T)  # 128 MiB between the products
a, b = jnp.ones((16384, 16)), jnp.ones((16, 2048))
faults = []  # until the heap has a place for the temporaries, a call or two takes new pages
for _ in range(11):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    wide(a, b).block_until_ready()
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(int(statistics.median(faults)))
"""
FLAGS = "import os; from gpt_jax import backend; backend.tune(); print(os.environ['XLA_FLAGS'])"


def run(program: str, **environment: str) -> str:
    others = ("MALLOC_", "XLA_", "JAX_CPU_", "NPROC")  # more threads than arenas of malloc share the one that keeps all
    clean = {name: value for name, value in os.environ.items() if not name.startswith(others)}
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
    own = "--xla_cpu_experimental_ynn_fusion_type=LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT"
    assert run(FLAGS).split() == [own]
    given = "--xla_dump_to=x --xla_cpu_experimental_ynn_fusion_type=LIBRARY_FUSION_TYPE_REDUCE"
    assert run(FLAGS, XLA_FLAGS=given).split() == given.split()


TOO_LATE = """
import warnings
{first}
from gpt_jax import backend
with warnings.catch_warnings(record=True) as said:
    backend.tune()
    jax.devices()
    backend.tune()
print(*[str(one.message) for one in said])
"""


def test_flags_that_come_too_late_are_told_of():
    assert "export XLA_FLAGS=--xla_cpu" in run(TOO_LATE.format(first="import jax; jax.devices()"))
    assert run(TOO_LATE.format(first="import jax")).strip() == ""


COMPILED_AGAIN = """
import jax, numpy as np
from gpt_jax import backend
backend.tune()
from gpt_jax.model.norm import rms_normed
from gpt_jax.model.recurrence import recurrence
from gpt_jax.model.where import Where
q, k, v = np.random.default_rng(0).normal(size=(3, 64, 2, 32, 32)).astype(np.float32)
decay = np.full((64, 2, 32), -0.03, np.float32)
found = []
for _ in range(12):
    jax.clear_caches()
    found.append(np.asarray(jax.jit(lambda *a: rms_normed(recurrence(*a, None, Where(), None)[0]))(q, k, v, decay)))
y = np.zeros((64, 2, 32, 32))
state = np.zeros((64, 2, 32, 32))
for t in range(32):
    state = np.exp(-0.03) * state + k[:, :, t, :, None] * v[:, :, t, None, :]
    y[:, :, t] = np.einsum("bnhj,bnh->bnj", state, q[:, :, t])
y /= np.sqrt((y**2).mean(-1, keepdims=True) + 1e-6)
print(sum(not np.allclose(one, y, atol=1e-3) for one in found))
"""


def test_a_norm_is_right_however_often_it_is_compiled():
    """With YNNPACK's reductions, as with XLA's own choice, every second program of this kind is wrong."""
    assert int(run(COMPILED_AGAIN)) == 0


def test_variants_are_the_same_however_often_they_are_compiled():
    """All of them: make compiled."""
    command = [sys.executable, "-m", "tests.compiled", "--times=3", "retention", "layernorm"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and "2 variants, 3 compilations each: 0 differ" in done.stdout, (
        done.stdout + done.stderr
    )


STEP = "from gpt_jax import backend; print([backend.step_options(*asked) for asked in {asked}])"


def test_options_of_a_step_on_a_gpu():
    asked = STEP.format(asked=[("gpu", False), ("gpu", True), ("cpu", True)])
    fast, exact, cpu = ast.literal_eval(run(asked))
    assert fast == {"xla_gpu_enable_triton_gemm": False, "xla_gpu_dot_merger_threshold_mb": 0}
    assert set(exact) - set(fast) == {
        "xla_gpu_exclude_nondeterministic_ops",
        "xla_gpu_enable_scatter_determinism_expander",
    }
    assert cpu is None
    given = "--xla_gpu_enable_triton_gemm=true --xla_gpu_exclude_nondeterministic_ops=false"
    fast, exact, _ = ast.literal_eval(run(asked, XLA_FLAGS=given))
    assert "xla_gpu_enable_triton_gemm" not in fast and "xla_gpu_exclude_nondeterministic_ops" not in exact


@pytest.mark.parametrize(
    "model, exact",
    [
        ({}, True),
        ({"scan": True}, True),
        ({"scan": 4}, True),
        ({"scan": 2}, False),
        ({"scan": True, "attention": ["sliding(window=8)", "full"]}, True),
        ({"scan": True, "attention": ["full", "full"]}, False),
        ({"mlp": "moe(experts=2, top_k=1)"}, False),
    ],
)
def test_steps_that_can_be_exact_on_a_gpu(model, exact):
    values = base.get_config()
    values.model.update(model, layers=4)
    assert can_be_exact(Config.from_dict(values).model) == exact


@pytest.mark.parametrize("flags, there, wanted", [
    ("--xla_force_host_platform_device_count=4096", None, "8192"),
    ("--xla_force_host_platform_device_count=4096", "3", "3"),
    ("", None, None),
])  # fmt: skip
def test_virtual_devices_have_threads_to_wait_in(flags, there, wanted, monkeypatch):
    """With two on two cores, a step over experts and tensor hangs for good."""
    monkeypatch.setenv("XLA_FLAGS", flags)
    monkeypatch.setenv("NPROC", there or "")
    if there is None:
        monkeypatch.delenv("NPROC")
    backend.let_devices_wait()
    assert os.environ.get("NPROC") == wanted
