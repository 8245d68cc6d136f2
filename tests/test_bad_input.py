"""Every mistake of a user ends with exit code 2, one screen that names it, no traceback, and nothing written."""

import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import launch

ROOT = Path(__file__).resolve().parents[1]
SMALL = {
    "model.layers": 1,
    "model.width": 16,
    "model.heads": 2,
    "model.context": 16,
    "data.tokenizer": "bytes",
    "train.batch": 8,
    "train.steps": 2,
}


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text("to be or not to be, that is the question. " * 40)
    return path


def command(text: Path, **changes) -> list[str]:
    """A train command that would run, with knobs changed ("__" for ".")."""
    knobs = {**SMALL, "data.source": f"text(path={str(text)!r})", "data.cache": str(text.parent / "cache")}
    knobs |= {key.replace("__", "."): value for key, value in changes.items()}
    flags = [f"--config.{key}={value}" for key, value in knobs.items()]
    return ["train", f"--config={ROOT / 'gpt_jax' / 'configs' / 'base.py'}", f"--workdir={text.parent / 'run'}", *flags]


def refused(argv: list[str], capsys: pytest.CaptureFixture, *words: str) -> str:
    """Runs a command that must fail with exit code 2 and name ``words``; returns what it said."""
    code = launch.main(argv)
    said = capsys.readouterr().err
    assert code == 2, said
    assert "Traceback" not in said
    assert len(said.splitlines()) <= 24
    for word in words:
        assert word in said
    return said


KNOBS = {
    "unknown key": (dict(model__widht=3), ["widht", "width"]),
    "wrong type": (dict(train__steps="many"), ["many"]),
    "heads": (dict(model__heads=3), ["model.width = 16", "model.heads = 3"]),
    "kv heads": (dict(model__heads=4, model__kv_heads=3), ["model.kv_heads = 3"]),
    "accumulation": (dict(train__accumulate=3), ["train.batch", "train.accumulate = 3"]),
    "devices": (dict(train__batch=12), ["train.batch = 12", "8 devices"]),
    "mesh": (dict(mesh__data=3), ["number of devices, 8"]),
    "context": (dict(model__context=100_000), ["100000"]),
    "vocabulary": (dict(model__vocab=100), ["model.vocab is 100", "257"]),
    "optimizer": (dict(optim__optimizer="adamv"), ["adamv", "adamw"]),
    "attention": (dict(model__attention="fulll"), ["fulll", "full"]),
    "schedule": (dict(optim__schedule="cosin"), ["cosin", "cosine"]),
    "source": (dict(data__source="txt(path='x')"), ["txt", "text"]),
    "tokenizer": (dict(data__tokenizer="byte"), ["byte", "bytes"]),
    "argument": (dict(optim__optimizer="adamw(beta=0.9)"), ["beta", "b1"]),
    "argument type": (dict(optim__schedule="cosine(final='low')"), ["final", "float"]),
    "no call": (dict(model__attention="full("), ["full("]),
    "temperature": (dict(sample__temperature=-1.0), ["sample.temperature = -1.0"]),
    "missing file": (dict(data__source="text(path='/nowhere/at/all.txt')"), ["/nowhere/at/all.txt"]),
    "groups": (dict(optim__groups="(('x', {'lrr': 1}),)"), ["lrr", "lr"]),
}


@pytest.mark.parametrize("name", KNOBS)
def test_a_wrong_knob_is_refused_before_anything_is_written(name, text, capsys):
    changes, words = KNOBS[name]
    refused(command(text, **changes), capsys, *words)
    assert not (text.parent / "run").exists()


FILES = {
    "empty": (b"", ["empty"]),
    "binary": (b"\x00\x01\x02\x03" * 100, ["text.txt"]),
    "invalid UTF-8": (b"good text \xff\xfe and more" * 20, ["text.txt", "10"]),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_no_text_is_refused_by_name(name, text, capsys):
    content, words = FILES[name]
    text.write_bytes(content)
    refused(command(text), capsys, *words)
    assert not (text.parent / "run").exists()


def test_a_corrupt_token_file_is_refused(text, capsys):
    path = text.parent / "tokens.bin"
    header = np.zeros(256, "<i4")
    header[:3] = 20240520, 1, 10_000  # llm.c's header, promising more tokens than follow
    path.write_bytes(header.tobytes() + struct.pack("<8H", *range(8)))
    refused(command(text, data__source=f"tokens(path={str(path)!r}, vocab=300)"), capsys, "tokens.bin")


def test_token_ids_beyond_the_vocabulary_are_refused(text, capsys):
    path = text.parent / "tokens.bin"
    np.full(2000, 299, "<u2").tofile(path)
    refused(command(text, data__source=f"tokens(path={str(path)!r}, vocab=256)"), capsys, "299")


def test_a_workdir_that_cannot_be_written_is_refused(text, capsys):
    (text.parent / "run").write_text("a file stands here")
    refused(command(text), capsys, "run")


def test_verbs_and_flags_are_checked(text, capsys):
    refused(["trian"], capsys, "trian", "train")
    refused(["train", f"--workdir={text.parent / 'run'}"], capsys, "--config")
    refused(["eval", f"--workdir={text.parent / 'run'}"], capsys, "no run")
    refused(["train", "--config=configs/nowhere.py", f"--workdir={text.parent}"], capsys, "nowhere")


def test_what_does_not_fit_a_finished_run_is_refused(text, capsys):
    assert launch.main(command(text, sample__prompts="()", train__tensorboard=False)) == 0
    capsys.readouterr()
    before = {path: path.stat().st_mtime_ns for path in (text.parent / "run").rglob("[!.]*")}
    run = f"--workdir={text.parent / 'run'}"
    refused(command(text, optim__lr=0.5), capsys, "optim.lr", "0.5")
    refused(command(text, model__width=32), capsys, "model.width")
    refused(command(text, data__tokenizer="chars"), capsys, "data.tokenizer")
    refused(["sample", run, "--prompt=a prompt that is longer than the context"], capsys, "16")
    refused(["sample", run, "--prompt=to", "--sample.temperature=-1"], capsys, "temperature")
    refused(["sample", run, "--prompt_ids=5 9999", "--sample.max_new_tokens=4"], capsys, "9999")
    refused(["sample", run, "--prompt=to", "--step=77"], capsys, "77")
    stuck = ["--sample.allowed_words=('a',)", "--sample.bad_words=('aa',)", "--sample.suppress_tokens=(256,)"]
    refused(["sample", run, "--prompt=to", *stuck], capsys, "prompt 1 of 1 after 1 new", "bad_words, allowed_words")
    refused(
        ["sample", run, "--prompt=to", "--sample.bad_words=('a', 'b')", "--sample.allowed_words=('ab',)"], capsys, "'a'"
    )
    refused(
        ["sample", run, "--prompt=to", "--sample.guidance_scale=2", "--sample.negative_prompt=a text that is too long"],
        capsys,
        "16",
    )
    text.write_text("other words than those of the first run " * 40)
    refused(command(text), capsys, "fingerprint")
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_the_real_command_says_so_quickly(text):
    begun = time.monotonic()
    argv = command(text, model__attention="fulll")
    done = subprocess.run([sys.executable, "launch.py", *argv], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert time.monotonic() - begun < 30  # ten on a machine that does nothing else
