"""One run per run directory, whatever happens to its owner."""

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from gpt_jax.errors import UserError
from gpt_jax.train.checkpoint import lock
from gpt_jax.train.checkpoint.lock import WorkdirLock

ROOT = Path(__file__).resolve().parents[3]

OWNER = """
    import sys, time
    from gpt_jax.errors import UserError
    from gpt_jax.train.checkpoint.lock import WorkdirLock
    try:
        with WorkdirLock(sys.argv[1]):
            print("held", flush=True)
            sys.stdin.read()
    except UserError as error:
        print(error, flush=True)
"""


def start(workdir: Path) -> subprocess.Popen:
    command = [sys.executable, "-c", textwrap.dedent(OWNER), str(workdir)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def test_a_second_run_is_refused_and_told_who_holds_the_lock(tmp_path):
    owner = start(tmp_path / "new/run")
    assert owner.stdout.readline() == "held\n"
    with pytest.raises(UserError, match=f"process {owner.pid}, since ") as caught, WorkdirLock(tmp_path / "new/run"):
        pass
    assert os.uname().nodename in caught.value.what and str(tmp_path / "new/run") in caught.value.where
    owner.communicate(timeout=20)
    with WorkdirLock(tmp_path / "new/run"):
        pass


def test_the_lock_of_a_killed_owner_is_taken_over(tmp_path):
    owner = start(tmp_path)
    assert owner.stdout.readline() == "held\n"
    owner.send_signal(signal.SIGKILL)
    owner.wait(timeout=20)
    assert json.loads((tmp_path / ".lock").read_text())["pid"] == owner.pid
    with WorkdirLock(tmp_path):
        assert json.loads((tmp_path / ".lock").read_text())["pid"] == os.getpid()


def test_of_several_started_together_one_proceeds(tmp_path):
    runs = [start(tmp_path) for _ in range(4)]
    said = [run.stdout.readline() for run in runs]
    assert said.count("held\n") == 1
    winner = runs[said.index("held\n")]
    assert all(f"process {winner.pid}, since" in line for line in said if line != "held\n")
    for run in runs:
        run.communicate(timeout=20)


def test_it_is_released_when_the_run_fails(tmp_path):
    with pytest.raises(ZeroDivisionError), WorkdirLock(tmp_path):
        raise ZeroDivisionError
    with WorkdirLock(tmp_path), pytest.raises(UserError), WorkdirLock(tmp_path):
        pass


@pytest.mark.parametrize("place", ["file/run", "file", "/proc/no/such"])
def test_a_directory_that_cannot_be_written_is_the_users_error(tmp_path, place):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"), WorkdirLock(tmp_path / place):
        pass


def _note(**change):
    me = {"host": os.uname().nodename, "pid": os.getpid(), "boot": lock._boot(), "born": lock._born(os.getpid())}
    return json.dumps(me | {"since": "then"} | change)


@pytest.mark.parametrize(
    ("note", "refused"),
    [
        (_note(), True),
        (_note(host="elsewhere"), True),
        (_note(boot="before the restart"), False),
        (_note(born="1"), False),  # another process has the number now
        (_note(pid=2**22 + 1), False),  # above the largest a system gives
        ("", False),
        ('{"host": "ha', False),
        ("[3]", False),
        ('{"host": "here"}', False),
        (_note(pid="1"), False),
        (_note(pid=2**80), False),
    ],
    ids=[
        *("alive", "elsewhere", "restarted", "number reused", "no such process", "empty", "torn"),
        *("no object", "incomplete", "no number", "no number of a process"),
    ],
)
def test_without_locks_in_the_file_system_the_note_decides(tmp_path, monkeypatch, note, refused):
    def no_flock(*_):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", no_flock)
    (tmp_path / ".lock").write_text(note)
    if refused:
        with pytest.raises(UserError, match="another run uses"), WorkdirLock(tmp_path):
            pass
    else:
        with WorkdirLock(tmp_path):
            pass


def test_who_holds_a_directory_is_read_without_taking_it(tmp_path):
    assert lock.owner(tmp_path) == lock.owner(tmp_path / "nowhere") == {} and not list(tmp_path.iterdir())
    with WorkdirLock(tmp_path):
        assert lock.owner(tmp_path)["pid"] == os.getpid()
    assert lock.owner(tmp_path) == {}
    (tmp_path / ".lock").write_text(_note(pid=2**22 + 1))  # of a process that is no more
    assert lock.owner(tmp_path) == {}
    (tmp_path / ".lock").unlink()
    (tmp_path / ".lock").mkdir()
    assert lock.owner(tmp_path) == {}
