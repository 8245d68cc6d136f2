"""Settings that have to be in the environment before anything imports JAX; subprocesses of tests inherit them."""

import os
from pathlib import Path

import pytest

from tests import xla

VIRTUAL_DEVICES = 8

os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), xla.flags(VIRTUAL_DEVICES)]).strip()
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
