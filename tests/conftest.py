"""Settings that have to be in the environment before anything imports JAX; subprocesses of tests inherit them."""

import os
import signal
from pathlib import Path

import pytest

from tests import selection, xla

VIRTUAL_DEVICES = 8

os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), xla.flags(VIRTUAL_DEVICES)]).strip()
os.environ.setdefault("NPROC", str(2 * VIRTUAL_DEVICES))  # see backend.let_devices_wait
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).resolve().parents[1] / ".cache" / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

for number in (signal.SIGHUP, signal.SIGINT):  # ignored where the tests run in the background, and in all they start
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


# They begin first, so that none of them is what the last process is still busy with; the others follow by name.
LONGEST = ["test_printed_commands.py", "test_contract.py", "test_population.py", "test_launch.py", "test_decode.py"]


def pytest_addoption(parser):
    parser.addoption("--all", action="store_true", help="slow tests and whole tables too (tests/selection.py)")


def pytest_collection_modifyitems(config, items):
    selection.select(config, items)
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.name, len(LONGEST)))


MAPPINGS = Path("/proc/self/maps")
MOST_MAPPINGS = 45_000


@pytest.fixture(autouse=True)
def _programs_are_dropped():
    """Compiled programs are dropped when there are many: each maps memory of its own, and beyond vm.max_map_count, often
    65,530 places, the compiler aborts the process."""
    yield
    if MAPPINGS.exists() and MAPPINGS.read_bytes().count(b"\n") > MOST_MAPPINGS:
        import jax

        jax.clear_caches()
