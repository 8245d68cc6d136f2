"""Settings of XLA and of the C library that have to be made before JAX is used, and what the environment says of JAX.

Which variables are followed, recorded or refused stands in docs/distributed.md.
"""

import contextlib
import contextvars
import ctypes
import functools
import os
import re
import sys
import tempfile
import warnings
from collections.abc import Iterator
from typing import Any

from gpt_jax.errors import UserError

# Of the fusions around matrix products that XLA's CPU backend makes by default, those of the backward pass transpose
# and copy their operands; without them a training step takes 7 to 15% less time. Left are YNNPACK's own products, 19% of a
# step of GPT-2 124M. Its reductions save another 9%, and compute wrong numbers (docs/performance.md).
CPU_FLAGS = ("--xla_cpu_experimental_ynn_fusion_type=LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT",)

# Of a training step on a GPU. cuBLAS's products add biases by themselves, Triton's do not; and what XLA joins to one product
# it has to cut apart again (docs/performance.md).
GPU_OPTIONS = {"xla_gpu_enable_triton_gemm": False, "xla_gpu_dot_merger_threshold_mb": 0}
# Sums in one order, so that a resumed run has the same bits. Without the second, the first loops over the rows of a scatter.
GPU_EXACT = {"xla_gpu_exclude_nondeterministic_ops": True, "xla_gpu_enable_scatter_determinism_expander": True}

# What mallopt(3) sets, by its numbers in malloc.h. glibc takes arrays above 32 MiB from the kernel and gives them back
# when they are freed: a training step would have every page of its activations cleared anew (docs/performance.md).
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
EVERYTHING = -1  # as mallopt(3) says: no trimming at all

ASYNC_DISPATCH = (
    "jax_cpu_enable_async_dispatch"  # of jax.config; JAX reads no variable for it, we read its name in capitals
)
TRUE = ("1", "true", "yes", "on")
VIRTUAL = "--xla_force_host_platform_device_count"  # of XLA_FLAGS: devices that a CPU is taken for


NUMBERS = "a run's numbers would be others than its configuration says"
CODE = "it is for finding errors in code that is written for it; this is not"
# Variable -> (the values that a run may have, as JAX reads them; why no others).
REFUSED: dict[str, tuple[tuple[Any, ...], str]] = {
    "JAX_DEFAULT_PRNG_IMPL": (("threefry2x32",), f"{NUMBERS}: initial values and dropout"),
    "JAX_THREEFRY_PARTITIONABLE": ((True,), f"{NUMBERS}: initial values and dropout, which the mesh would decide too"),
    "JAX_RANDOM_SEED_OFFSET": ((0,), f"{NUMBERS}; config.train.seed is the seed"),
    "JAX_NUMPY_DTYPE_PROMOTION": (("standard",), CODE),
    "JAX_NUMPY_RANK_PROMOTION": (("allow", "warn"), CODE),
    "JAX_DEBUG_KEY_REUSE": ((False,), CODE),
    "JAX_TRANSFER_GUARD": ((None, "allow", "log", "log_explicit"), CODE),
    "JAX_TRANSFER_GUARD_HOST_TO_DEVICE": ((None, "allow", "log", "log_explicit"), CODE),
    "JAX_TRANSFER_GUARD_DEVICE_TO_HOST": ((None, "allow", "log", "log_explicit"), CODE),
    "JAX_ERROR_CHECKING_BEHAVIOR_NAN": (("ignore",), CODE),
    "JAX_ERROR_CHECKING_BEHAVIOR_DIVIDE": (("ignore",), CODE),
    "JAX_ERROR_CHECKING_BEHAVIOR_OOB": (("ignore",), CODE),
    "JAX_NO_EXECUTION": ((False,), "nothing would be computed"),
    "JAX_NO_TRACING": ((False,), "nothing would be computed"),
}
HARMLESS = ("JAX_PLATFORMS", "JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_")  # their beginnings; read without JAX


def tune() -> None:
    """Adds the flags to XLA_FLAGS, except those that the user has set there, and lets malloc keep what is freed, unless
    the environment sets MALLOC_MMAP_MAX_ or MALLOC_TRIM_THRESHOLD_. Warns where JAX has started without the flags.

    Raises:
      UserError: a variable of JAX has a value that JAX does not know, or that a run may not have.
    """
    given = os.environ.get("XLA_FLAGS", "").split()
    names = {flag.partition("=")[0] for flag in given}
    added = [flag for flag in CPU_FLAGS if flag.partition("=")[0] not in names]
    if added:
        os.environ["XLA_FLAGS"] = " ".join([*given, *added])
        warn_if_started()
    keep_freed_memory()
    check_variables()


def warn_if_started() -> None:
    """XLA reads its flags once, and its own choices may compute wrong numbers on a CPU (docs/performance.md)."""
    bridge = sys.modules.get("jax._src.xla_bridge")
    if bridge and bridge.backends_are_initialized() and target_platform() == "cpu":
        warnings.warn(
            "JAX was used before gpt_jax, so that XLA's own choices hold, with which some models compute wrong numbers on "
            f"CPUs. Start again, and call gpt_jax first or export XLA_FLAGS={CPU_FLAGS[0]}",
            stacklevel=4,
        )


def check_variables() -> None:
    """
    Raises:
      UserError: see ``tune``.
    """
    given = [name for name in os.environ if name.startswith("JAX_") and not name.startswith(HARMLESS)]
    if not given:
        return
    try:
        import jax
    except ValueError as error:  # of a value that its variable cannot have
        raise UserError(f"JAX refuses the environment: {error}", where=", ".join(given)) from error
    for name in (name for name in REFUSED if name in given):
        allowed, why = REFUSED[name]
        value = getattr(jax.config, name.lower())
        if getattr(value, "value", value) not in allowed:
            raise UserError(f"{name}={os.environ[name]} is set: {why}", where="environment", fix=f"unset {name}")


def check_precision(dtype: str) -> None:
    """
    Args:
      dtype: of the model.

    Raises:
      UserError: JAX computes in double precision and the model does not, or the model does and JAX does not.
    """
    import jax

    double = bool(jax.config.jax_enable_x64)
    if double and dtype != "float64":
        raise UserError(
            f"JAX_ENABLE_X64 is set, and model.dtype is {dtype}: {NUMBERS}",
            where="environment, config.model.dtype",
            fix="unset JAX_ENABLE_X64, or --config.model.dtype=float64",
        )
    if dtype == "float64" and not double:
        raise UserError(
            "JAX computes nothing in float64 unless the environment says so",
            where="config.model.dtype",
            fix="export JAX_ENABLE_X64=1",
        )


def first_contact() -> None:
    """Starts JAX's backends. Later calls do nothing.

    Raises:
      UserError: XLA_FLAGS has a flag that XLA does not know, or there is no device of the kind that JAX_PLATFORMS names.
    """
    import jax
    from jax._src import xla_bridge

    if xla_bridge.backends_are_initialized():
        return
    check_flags()
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:
        named = [f"{name}={os.environ[name]}" for name in ("JAX_PLATFORMS", "JAX_PLATFORM_NAME") if name in os.environ]
        reason = str(error).partition("\n")[0] or "no such device, or no plugin for it, is here"
        raise UserError(
            f"JAX finds no devices{' with ' + ' and '.join(named) if named else ''}: {reason}",
            where="environment",
            fix="unset the variable, or name a platform of this machine, such as cpu" if named else "",
        ) from error


_compiled_for: contextvars.ContextVar[str] = contextvars.ContextVar("compiled_for", default="")


def target_platform() -> str:
    """The platform that programs are traced for: that of JAX's default devices, but within ``compiling_for``."""
    import jax

    return _compiled_for.get() or jax.default_backend()


@contextlib.contextmanager
def compiling_for(platform: str) -> Iterator[None]:
    """Programs are traced as for devices of this platform, which need not be here: "gpu" or "tpu"."""
    before = _compiled_for.set(platform)
    try:
        yield
    finally:
        _compiled_for.reset(before)


def host_device() -> Any:
    """A device for arrays that no accelerator has to hold: a CPU, or the first device where JAX_PLATFORMS names no CPU.

    Raises:
      UserError: see ``first_contact``.
    """
    import jax

    first_contact()
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:
        return jax.local_devices()[0]


@functools.cache
def check_flags() -> None:
    """Has XLA read its flags in a process of its own: one that it does not know would end this one without a word of ours.
    The first call, best before there are threads, is the one that does it.

    Raises:
      UserError: see ``first_contact``.
    """
    if not set(os.environ.get("XLA_FLAGS", "").split()) - set(CPU_FLAGS):
        return
    from jaxlib import xla_client

    with tempfile.TemporaryFile() as said, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of threads, which the child does not need
        child = os.fork()
        if not child:
            os.dup2(said.fileno(), 2)
            xla_client.CompileOptions()
            os._exit(0)
        if os.waitpid(child, 0)[1]:
            said.seek(0)
            lines = said.read().decode(errors="replace").splitlines()
            reason = next((line.partition("] ")[2] for line in lines if line[:1] in "EF" and "] " in line), "")
            raise UserError(f"XLA refuses XLA_FLAGS: {reason}", where=f"XLA_FLAGS={os.environ['XLA_FLAGS']}")


def step_options(platform: str, exact: bool) -> dict[str, bool | int] | None:
    """XLA's options for a training step, except those that the user has set in XLA_FLAGS; None where there are none.

    Args:
      exact: whether its sums are to have one order.
    """
    if platform != "gpu":
        return None
    given = {flag.partition("=")[0] for flag in os.environ.get("XLA_FLAGS", "").split()}
    options = GPU_OPTIONS | (GPU_EXACT if exact else {})
    return {name: value for name, value in options.items() if f"--{name}" not in given}


def keep_freed_memory() -> None:
    """Where the C library is glibc; others have no mallopt and are left as they are."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None or {"MALLOC_MMAP_MAX_", "MALLOC_TRIM_THRESHOLD_"} & set(os.environ):
        return
    mallopt(M_MMAP_MAX, 0)
    mallopt(M_TRIM_THRESHOLD, EVERYTHING)


def run_where_called() -> None:
    """Has JAX run a program on a CPU in the thread that calls it, unless the environment sets
    JAX_CPU_ENABLE_ASYNC_DISPATCH=1. Call it before anything asks JAX for devices.

    JAX's own thread has another arena of malloc, of heaps of 64 MiB. A program's temporaries do not fit in there, so glibc
    takes them from the kernel, whatever M_MMAP_MAX is, and gives them back after every step (docs/performance.md).
    """
    import jax

    jax.config.update(ASYNC_DISPATCH, os.environ.get(ASYNC_DISPATCH.upper(), "").lower() in TRUE)


def let_devices_wait() -> None:
    """Gives XLA two threads for every virtual device of a CPU, unless the environment sets NPROC, which XLA reads. Call it
    before anything asks JAX for devices.

    It has as many as there are cores otherwise, and devices that wait for others in a collective can hold all of those that
    the others need.
    """
    import jax

    asked = re.search(rf"{VIRTUAL}=(\d+)", os.environ.get("XLA_FLAGS", ""))
    count = max(int(asked[1]) if asked else 1, jax.config.jax_num_cpu_devices)
    if count > 1 and 2 * count > (os.cpu_count() or 1):
        os.environ.setdefault("NPROC", str(2 * count))
