"""What programmes do to the workers that judge them, and what is left of both when a run ends."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gpt_jax import registry
from gpt_jax.errors import UserError
from gpt_jax.judge.sandbox import pool, worker
from gpt_jax.train.rewards import WHERE

ROOT = Path(__file__).resolve().parents[2]
TESTS = ("assert double(2) == 4", "assert double(3) == 6")
RIGHT = "def double(x): return 2 * x\n"
BOUNDS = pool.Bounds(0.3, 512)
# Judges programmes that never end, as a rollout does between two steps.
ENDLESS = """
    from gpt_jax.judge.sandbox import pool
    from gpt_jax.train.signals import StopRequest

    with StopRequest():
        print("begun", flush=True)
        pool.verdicts([pool.Programme(f"open('x', 'w')\\nwhile True: pass  # {n}", ("pass",)) for n in range(4)], %s)
        print("ended", flush=True)
"""


def passed(*sources: str, bounds: pool.Bounds = BOUNDS) -> list[tuple[bool, ...]]:
    return [found.passed for found in pool.verdicts([pool.Programme(source, TESTS) for source in sources], bounds)]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where the programmes of a test have their folders; nothing is left in it."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    yield tmp_path
    until(lambda: not list(tmp_path.iterdir()) and not living_in(tmp_path))


def living_in(folder: Path) -> list[str]:
    """Processes whose working directory is below a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cwd"):
        try:
            found.append(os.readlink(path))
        except OSError:
            continue
    return [cwd for cwd in found if cwd.startswith(str(folder))]


def until(true: Callable[[], object], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="only Linux has a signal that the hook does not see")
def test_a_programme_that_ends_its_worker_is_wrong_and_the_others_are_judged(folder):
    kills = f"import os, signal\nsignal.pidfd_send_signal(os.pidfd_open(os.getppid()), {signal.SIGKILL:d})\n"
    sources = [RIGHT + "# 1", kills + "while True: pass", kills + RIGHT, RIGHT + "# 2", kills, RIGHT + "# 3"]
    assert [all(one) for one in passed(*sources)] == [True, False, False, True, False, True]


@pytest.mark.parametrize(
    "source",
    [
        "while True: print('x' * 10**6)",
        "import atexit, sys\natexit.register(lambda: print('ok'))\nsys.exit(0)",
        "import sys\nsys.stdout.close(); sys.stderr.close()\ndef double(x): return x",
        "import os\nos.closerange(0, 64)\n" + RIGHT,
        "import os\nwhile True:\n    os.mkdir('a')\n    os.chdir('a')",
        "import os\nfor n in range(500):\n    os.mkdir('a')\n    os.chdir('a')\nos.chmod('.', 0)\n1 / 0",
        "n = 0\nwhile True:\n    open(str(n), 'w').write('x')\n    n += 1",
        "import threading\nthreading.Thread(target=print).start()\n" + RIGHT,
    ],
)
def test_it_is_wrong_and_nothing_of_it_is_left(folder, source, capfd):
    assert not any(all(one) for one in passed(source))
    said = capfd.readouterr()
    assert not said.out and not said.err


def test_the_time_of_each_is_reported():
    quick, slow = pool.verdicts([pool.Programme(RIGHT, TESTS), pool.Programme("while True: pass", TESTS)], BOUNDS)
    assert 0 < quick.seconds < slow.seconds and BOUNDS.seconds <= slow.seconds < BOUNDS.wall + 5


def test_a_programme_is_judged_alike_each_time():
    """The order of sets and random numbers are the same in every process."""
    source = "import random\nfound = repr((list({'a', 'b', 'c', 'd', 'e', 'f'}), random.random()))\n"
    guesses = [pool.Programme(source, (f"assert hash(found) % 16 == {n}",)) for n in range(16)]
    assert sum(found.passed[0] for found in pool.verdicts(guesses, BOUNDS)) == 1


def test_each_begins_with_modules_that_no_other_has_changed():
    changed = "import math, builtins\nmath.pi = 3\nbuiltins.len = None\nimport __main__\n__main__._judged = None\n"
    assert all(map(all, passed(*(changed + RIGHT + f"# {n}" for n in range(6)), "assert len('a')\n" + RIGHT)))


def test_nothing_is_left_of_a_run_that_is_killed(folder):
    process = started("pool.Bounds(60.0, 512)")
    until(lambda: list(folder.glob("*/*/*/x")))
    process.kill()
    process.communicate()


def test_nothing_is_left_of_a_run_that_is_killed_while_a_worker_starts(folder):
    """It finds an order, and nobody to answer."""
    (folder / "shared").mkdir()
    reading, writing = os.pipe()
    os.close(reading)
    order = {
        "source": "while True: pass",
        "tests": ["pass"],
        "every": False,
        "seconds": 60,
        "megabytes": 512,
        "wall": 60,
    }
    command = [sys.executable, *pool.PYTHON, worker.__file__]
    done = subprocess.run(
        command, input=json.dumps(order).encode() + b"\n", stdout=writing, cwd=folder / "shared", timeout=30
    )
    os.close(writing)
    assert done.returncode == 0


def test_a_request_to_stop_is_acknowledged_at_once_and_ends_nothing(folder):
    process = started("pool.Bounds(1.0, 512)")
    until(lambda: list(folder.glob("*/*/*/x")))
    process.send_signal(signal.SIGTERM)
    assert process.stderr is not None and "SIGTERM: stopping" in process.stderr.readline()
    assert living_in(folder) and process.poll() is None  # it was said before the programmes were done
    out, _ = process.communicate(timeout=60)
    assert "ended" in out and process.returncode == 0


def test_a_second_interrupt_ends_all_of_it(folder):
    process = started("pool.Bounds(60.0, 512)")
    until(lambda: list(folder.glob("*/*/*/x")))
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None and "SIGINT: stopping" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert "ended" not in out and "KeyboardInterrupt" in err


def started(bounds: str) -> subprocess.Popen:
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    command = [sys.executable, "-c", textwrap.dedent(ENDLESS % bounds)]
    process = subprocess.Popen(command, cwd=ROOT, text=True, env=os.environ | {"JAX_PLATFORMS": "cpu"}, **streams)
    assert process.stdout is not None and process.stdout.readline() == "begun\n"
    return process


def test_a_deep_folder_is_removed(tmp_path):
    top = tmp_path / "top"
    top.mkdir()
    before = os.open(".", os.O_RDONLY)
    try:
        os.chdir(top)
        for _ in range(3000):
            os.mkdir("a")
            os.chdir("a")
    finally:
        os.fchdir(before)
        os.close(before)
    worker.remove(top)
    assert not top.exists()


def test_a_system_without_limits_is_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "resource", None)
    with pytest.raises(UserError, match="no module resource") as error:
        registry.build("train.rewards", "code(run=True)", where=WHERE)
    assert error.value.where == WHERE and "WSL" in error.value.fix
