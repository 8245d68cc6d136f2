"""The verb chat as people and scripts run it: at a terminal, through pipes, and where nobody reads."""

import json
import os
import subprocess
import sys

import pytest

import launch
from tests.sample.terminal import CTRL_C, CTRL_D, ENVIRONMENT, ROOT, terminal
from tests.train import tiny

RUN = {"train__steps": 1, "train__batch": 8, "model__context": 64}
AT_TERMINAL = "import sys; from gpt_jax.main import command_line; command_line(sys.argv[1:])"


def chat(workdir, typed: bytes, *flags, **streams) -> subprocess.CompletedProcess:
    command = [sys.executable, "launch.py", "chat", f"--workdir={workdir}", *flags]
    environment = os.environ | ENVIRONMENT | {"PYTHONIOENCODING": "utf-8"}
    given = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | streams
    return subprocess.run(command, input=typed, cwd=ROOT, env=environment, timeout=300, **given)


def test_a_pipe(workdir, model, tmp_path):
    """Each line is a turn; only answers are printed; the same lines get the same answers; errors end nothing."""
    saved = tmp_path / "talk.json"
    typed = f"hello\n\n/nope\nna\u00efve \U0001f600\n//quit\n/save {saved}\n/quit\nnever\n".encode()
    done, again = chat(workdir, typed, "--system=S"), chat(workdir, typed, "--system=S")
    assert done.returncode == 0, done.stderr
    assert done.stdout == again.stdout
    messages = json.loads(saved.read_text())["messages"]
    assert [m["content"] for m in messages if m["role"] == "user"] == ["hello", "na\u00efve \U0001f600", "/quit"]
    answers = [m["content"] for m in messages if m["role"] == "assistant"]
    assert done.stdout.decode() == "".join(f"{answer}\n" for answer in answers)
    assert answers[0] == model.generate(messages[:2]).text
    assert b"error: there is no command /nope" in done.stderr and b"Traceback" not in done.stderr


def test_bytes_that_are_no_text_and_turns_that_do_not_fit(workdir):
    done = chat(workdir, b"\xff\xfe\n" + b"some words\n" * 4)
    assert done.returncode == 0 and done.stdout.decode()
    assert b"note: the first turn does not fit into the context any more" in done.stderr
    assert b"note: the first 2 turns do not fit" in done.stderr


def test_nobody_reads(workdir, tmp_path):
    """A closed output ends nothing; a reader that leaves ends the chat, as it ends other commands."""
    closed = subprocess.run(
        ["sh", "-c", f'"{sys.executable}" launch.py chat --workdir="{workdir}" >&-'],
        input=f"hello\n/save {tmp_path / 'talk.json'}\n".encode(),
        cwd=ROOT,
        env=os.environ | ENVIRONMENT,
        stderr=subprocess.PIPE,
        timeout=300,
    )
    assert closed.returncode == 0, closed.stderr
    assert len(json.loads((tmp_path / "talk.json").read_text())["messages"]) == 2
    reader, writer = os.pipe()
    os.close(reader)
    left = chat(workdir, b"hello\nhello\n", stdout=writer)
    os.close(writer)
    assert left.returncode == 141 and b"Traceback" not in left.stderr


def test_at_a_terminal(workdir):
    """Ctrl-C ends an answer and not the chat, and Ctrl-D ends the chat. The answer is longer than what a terminal buffers,
    so that it cannot end before it is interrupted."""
    flags = ["--config.model.context=16384", "--sample.max_new_tokens=16000", "--sample.ignore_eos=True"]
    with terminal(AT_TERMINAL, ["chat", f"--workdir={workdir}", *flags]) as shown:
        assert "/help" in shown.asked()
        shown.type("hello\n")
        shown.until(lambda text: len(text) > 200)
        shown.type(CTRL_C)
        assert "note: stopped" in shown.asked()
        shown.type("/max_new_tokens 3\n")
        shown.asked()
        shown.type("again\n")
        shown.asked()
        shown.type("/history\n")
        history = shown.asked()
        assert "user: hello\nassistant: " in history and "user: again\nassistant: " in history
        shown.interrupted()  # which ends nothing
        shown.type(CTRL_D)
        assert shown.child.wait(60) == 0


@pytest.mark.parametrize(
    "changes, words",
    [({"data__template": "plain"}, "no template for dialogues"), ({"data__tokenizer": "none"}, "no tokenizer")],
)
def test_a_run_without_a_template_is_refused(changes, words, tmp_path, capsys):
    if "data__tokenizer" in changes:
        changes |= {"data__source": "copy", "data__template": "chatml"}
    assert launch.main(tiny.command(tiny.write_text(tmp_path), tmp_path / "q", **(RUN | changes))) == 0
    capsys.readouterr()
    assert launch.main(["chat", f"--workdir={tmp_path / 'q'}"]) == 2
    said = capsys.readouterr().err
    assert words in said and ("--config=dialogue" in said or "tokenizer" in said)
