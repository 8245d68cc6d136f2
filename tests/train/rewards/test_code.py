"""Programmes that a model wrote: which are right, and that the others do no harm."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gpt_jax.data.open import open_data
from gpt_jax.errors import UserError
from gpt_jax.judge.sandbox import pool
from gpt_jax.train.rewards import Completion
from tests.train import tiny
from tests.train.rewards.completions import completion, rewarded

TESTS = ["assert double(2) == 4", "assert double(0) == 0", "assert double(-3) == -6"]
RIGHT = "def double(x):\n    return 2 * x\n"
QUICK = "seconds=0.3, run=True"


def judged(source: str, options: str = QUICK, tests=TESTS, **row) -> float | None:
    return rewarded(f"code({options})", completion(source, tests=tests, **row))[0]


def children() -> list[str]:
    """Command lines of this machine's workers."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue
    return [line for line in lines if str(Path(pool.__file__).with_name("worker.py")) in line]


@pytest.mark.parametrize(
    "source, value",
    [
        (RIGHT, 1),
        (f"It is\n```python\n{RIGHT}```\nand not\n```\nx\n```", 1),
        ("def double(x):\n    return x + 2", 0),
        ("def double(x:", 0),
        ("", 0),
        ("import math, json\nprint('ok')\ndouble = lambda x: int(math.ldexp(x, 1))", 1),
        ("if __name__ == '__main__':\n    input()\n" + RIGHT, 1),
        ("import no_such_module\n" + RIGHT, 0),
        ("from jax import numpy\n" + RIGHT, 0),  # the standard library alone
    ],
)
def test_a_programme_is_right_if_its_tests_pass(source, value):
    assert judged(source) == value


@pytest.mark.parametrize(
    "source",
    [
        "while True: pass",
        "import time\ntime.sleep(60)",
        "import sys\nsys.exit(0)",
        "import os\nos._exit(0)",
        "raise SystemExit",
        "import os\nos.kill(os.getppid(), 9)",
        "import os\nos.kill(0, 9)",
        "import os, signal\nsignal.signal(signal.SIGPROF, signal.SIG_IGN)\nwhile True: pass",
        "import os\nwhile True: os.fork()",
        "import subprocess\nsubprocess.run(['sleep', '60'])",
        "x = bytearray(10**11)",
        "x = []\nwhile True: x.append(bytearray(10**6))",
        "def f(): f()\nf()",
        "import socket\nsocket.create_connection(('127.0.0.1', 9))",
        "import ctypes\nctypes.string_at(0)",
        "def double(x):\n    raise KeyboardInterrupt",
        "class Any:\n    def __eq__(self, other): return False\ndef double(x): return Any()",
    ],
)
def test_what_ends_or_never_ends_is_wrong_and_harms_nothing(source):
    begun = time.monotonic()
    assert judged(source + "\n" + RIGHT if "double" not in source else source) == 0
    assert time.monotonic() - begun < 30
    assert judged(RIGHT) == 1


@pytest.mark.parametrize(
    "forged",
    [
        "import os\nfor n in range(64):\n    try: os.write(n, b'x' * 60)\n    except OSError: pass\n",
        "import os\nfor n in range(3, 64):\n    try: os.close(n)\n    except OSError: pass\n",
        "print('passed')\n",
        "import builtins\nbuiltins.exec = lambda *a: None\nbuiltins.compile = lambda *a: None\n",
        "import os\nos._exit = lambda code: None\n",
    ],
)
def test_a_verdict_is_not_written_by_the_programme(forged):
    assert judged(forged + "def double(x):\n    return x") == 0


def test_files_stay_in_a_folder_that_is_removed(tmp_path, capfd):
    there = tmp_path / "there"
    there.write_text("mine")
    for source in (
        f"open({str(there)!r}, 'w').write('theirs')",
        f"import os\nos.remove({str(there)!r})",
        f"import os\nos.rename({str(there)!r}, 'mine')",
        f"import os\nos.symlink({str(tmp_path)!r}, 'out')\nopen('out/there', 'w').write('theirs')",
    ):
        assert judged(f"{source}\n{RIGHT}") == 0
    assert there.read_text() == "mine" and list(tmp_path.iterdir()) == [there]
    own = "import os\nopen('a', 'w').write('b')\nassert open('a').read() == 'b'\nprint(os.getcwd())\n"
    assert judged(own + RIGHT) == 1
    assert judged("open('a', 'w').write('x' * 10**9)\n" + RIGHT) == 0
    assert judged("import os\nassert set(os.environ) == {'HOME', 'TMPDIR'}, os.environ\n" + RIGHT) == 1
    said = capfd.readouterr()
    assert not said.out and not said.err


def test_many_at_once_in_order_and_equal_ones_once():
    sources = [f"def double(x):\n    return {2 if n % 3 else 1} * x + {n} * 0" for n in range(40)] * 3
    given = [completion(source, tests=TESTS) for source in sources]
    assert rewarded(f"code({QUICK})", *given) == [float(n % 3 > 0) for n in range(40)] * 3
    assert not children()


def test_a_share_of_the_tests():
    source = "def double(x):\n    return abs(2 * x)"
    assert judged(source, f"share=True, {QUICK}") == pytest.approx(2 / 3)
    assert judged(source) == 0
    assert judged("x = 1", f"share=True, {QUICK}", tests="assert x == 1") == 1
    assert judged("    return 2 * x", f"continued=True, {QUICK}", prompt="def double(x):\n") == 1


def test_no_process_is_left_where_the_run_is_killed(tmp_path):
    script = (
        "from gpt_jax.judge.sandbox import pool\n"
        "pool.verdicts([pool.Programme('while True: pass', ('pass',))] * 2, pool.Bounds(60.0, 512))"
    )
    run = subprocess.Popen([sys.executable, "-c", script], cwd=Path(__file__).parents[3])
    try:
        _until(lambda: len(children()) >= 2)
        os.kill(run.pid, signal.SIGKILL)
        _until(lambda: not children())
    finally:
        run.kill()
        run.wait()


def _until(true, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize(
    "options, row, said",
    [
        ("", {"tests": TESTS}, "code runs the programmes that the model writes"),
        ("run=True, megabytes=1", {"tests": TESTS}, "does nothing does not pass"),
        (QUICK, {"checks": TESTS}, "reads the field 'tests'"),
        (QUICK, {"tests": []}, "tests"),
        (QUICK, {"tests": [1]}, "tests"),
        (QUICK, {"tests": ["assert ("]}, "tests"),
        (f"continued=True, {QUICK}", {"tests": TESTS, "prompt": [{"role": "user", "content": "?"}]}, "of a dialogue"),
    ],
)
def test_what_cannot_be_judged_is_named(options, row, said):
    with pytest.raises(UserError, match=said) as error:
        rewarded(f"code({options})", completion(RIGHT, **row))
    assert error.value.exit_code == 2


def test_tests_of_a_file_reach_the_reward(tmp_path):
    path = tmp_path / "tasks.jsonl"
    lines = [json.dumps({"prompt": f"Write double(x), {n}.", "tests": ["assert double(2) == 4"]}) for n in range(20)]
    path.write_text("\n".join(lines))
    settings = {"data__source": f"jsonl(path={str(path)!r})", "data__valid_fraction": 0.3, "model__context": 64}
    settings |= {"data__cache": str(tmp_path / "c")}
    row = open_data(tiny.config(**settings), "prompts").train.fixed(1, 1)[0]["row"][0]
    assert rewarded(f"code({QUICK})", Completion(row, RIGHT, (), True)) == [1]
