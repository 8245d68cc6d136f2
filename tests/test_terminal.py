"""Output that nobody takes, or that cannot be encoded, ends no run; what only prints ends quietly, or says why."""

import errno
import io
import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gpt_jax import bars, terminal
from tests import xla
from tests.train import tiny

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENT = os.environ | {"XLA_FLAGS": xla.flags(), "PYTHONIOENCODING": "ascii"}


def shell(line: str, *arguments: str) -> subprocess.CompletedProcess:
    """A line of bash, in which "$@" is the real command with ``arguments``; its exit status is that of the command."""
    command = [sys.executable, "launch.py", *arguments]
    line = f"set +o pipefail; {line}; exit ${{PIPESTATUS[0]}}"
    return subprocess.run(
        ["bash", "-c", line, "bash", *command], cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True
    )


def test_training_goes_on_when_nobody_reads(tmp_path):
    argv = tiny.command(tiny.write_text(tmp_path), tmp_path / "run", sample__prompts="('a → b',)")
    answer = shell('"$@" 2>&1 | true', *argv, "--config.sample.max_new_tokens=4")
    assert answer.returncode == 0, answer.stderr
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["status"] == "done"


def test_the_same_with_no_streams_at_all(tmp_path):
    """And what is printed does not end up in a file that got the number of a closed stream."""
    rows = [f"{n}e6,{d}e8,{1 + 3 / n**0.3 + 2 / d**0.3}\n" for n in (1, 3, 9, 27) for d in (1, 4, 16)]
    (tmp_path / "runs.csv").write_text("params,tokens,loss\n" + "".join(rows))
    answer = shell('"$@" <&- >&- 2>&-', "fit", f"--runs={tmp_path / 'runs.csv'}", f"--out={tmp_path}", "--resamples=2")
    assert answer.returncode == 0
    assert json.loads((tmp_path / "fit.json").read_text())["points"] == 12


def test_characters_that_the_terminal_lacks_are_replaced():
    program = "from gpt_jax import terminal; terminal.guard(); print('a → b')"
    answer = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True)
    assert answer.stdout == "a ? b\n", answer.stderr


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_result_that_cannot_be_written_is_no_success():
    answer = shell('"$@" > /dev/full', "plan", "--help")
    assert answer.returncode == 74 and os.strerror(errno.ENOSPC) in answer.stderr


def broken_pipe() -> terminal.Output:
    reading, writing = os.pipe()
    os.close(reading)
    return terminal.Output(writing, "w")


def test_a_broken_output_drops_what_is_written():
    text = io.TextIOWrapper(io.BufferedWriter(broken_pipe()), "utf-8", line_buffering=True)
    for _ in range(3):
        print("nobody reads this", file=text)
    for _ in bars.kind()(range(3), file=text, mininterval=0):
        pass


def test_one_that_is_needed_says_so_once():
    output = broken_pipe()
    output.needed = True
    with pytest.raises(BrokenPipeError):
        output.write(b"x")
    assert output.write(b"xyz") == 3


def test_a_full_pipe_that_does_not_block_is_waited_for():
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    text = b"x" * 300_000  # more than a pipe holds
    with subprocess.Popen(["wc", "-c"], stdin=reading, stdout=subprocess.PIPE) as reader:
        os.close(reading)
        with io.BufferedWriter(terminal.Output(writing, "w")) as output:
            output.write(text)
        assert int(reader.stdout.read()) == len(text)


def test_a_signal_is_acknowledged_while_the_program_is_busy(tmp_path):
    """It comes while text is tokenised; the run ends before it has begun, and leaves nothing behind."""
    text = tmp_path / "text.txt"
    text.write_text("".join(f"{i:x} {i * 7919:x} " for i in range(200_000)))
    argv = tiny.command(text, tmp_path / "run", data__tokenizer="bpe(vocab_size=2000)")
    command = [sys.executable, "launch.py", *argv]
    process = subprocess.Popen(command, cwd=ROOT, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True, bufsize=1)
    said = []
    for line in process.stderr:
        said.append(line)
        if line.startswith("data "):
            time.sleep(0.5)
            process.send_signal(signal.SIGHUP)
    assert process.wait() == 75, said
    assert [line.split()[0] for line in said] == ["devices", "data", "SIGHUP:", "stopped", "fix:"]
    assert not (tmp_path / "run").exists()


WAITING = """
import fcntl, sys, termios, time
from gpt_jax import terminal
from gpt_jax.train.signals import StopRequest
terminal.guard()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # of this process and session
with StopRequest() as stop:
    print("waiting", flush=True)
    while not stop.requested:
        time.sleep(0.01)
    print(stop.signal.name, flush=True)
    print("nobody sees this", file=sys.stderr)
sys.exit(75)
"""


def test_a_terminal_that_closes_asks_to_stop():
    """By SIGHUP, after which nothing can be written to it."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", WAITING],
        cwd=ROOT,
        env=ENVIRONMENT,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    os.close(slave)
    assert os.read(master, 99).startswith(b"waiting")
    os.close(master)
    assert process.wait(timeout=60) == 75
