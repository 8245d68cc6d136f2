"""The GPU suite, at toy size on a CPU: it ends in time, and a piece that hangs or crashes costs no other."""

import json
import os
import subprocess
import sys
import time

import pytest

from benchmarks.gpu import __main__ as gpu
from benchmarks.gpu import table
from benchmarks.gpu.pieces import PIECES, Piece
from tests import xla

HERE = "tests.test_gpu_suite"


def hang(task):
    """A piece whose second part never ends, nor does the program it has started."""
    yield "first", lambda: {"figure": 1.0}
    with subprocess.Popen(["sleep", "1000"]) as sleeper:
        (task.scratch.parent / "gpu_suite_sleeper").write_text(str(sleeper.pid))
        yield "second", lambda: time.sleep(1000)


def crash(task):
    """A piece that takes its process with it after one part."""
    yield "first", lambda: {"figure": 2.0}
    print("the driver is gone", file=sys.stderr, flush=True)
    os._exit(9)


def lacking(task):
    """A piece one of whose parts needs too much memory."""
    yield "huge", _too_much
    yield "small", lambda: {"figure": 3.0}


def _too_much():
    raise MemoryError("100 GiB")


@pytest.fixture
def one_device(monkeypatch, tmp_path):
    monkeypatch.setenv("XLA_FLAGS", xla.flags(1))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)


def _running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_what_hangs_or_crashes_costs_no_other(one_device, tmp_path, capfd):
    pieces = {
        "hang": Piece(f"{HERE}:hang", 8),
        "crash": Piece(f"{HERE}:crash", 30),
        "lacking": Piece(f"{HERE}:lacking", 30),
        "no_graphs": PIECES["no_graphs"],
    }
    out = tmp_path / "gpu.json"
    start = time.monotonic()
    assert gpu.run(pieces, out, minutes=0.9, toy=True) == 0
    assert time.monotonic() - start < 54
    found = json.loads(out.read_text())["pieces"]
    assert found["hang"]["status"] == "cut" and found["hang"]["parts"]["first"]["figure"] == 1.0
    assert not _running(int((tmp_path / "gpu_suite_sleeper").read_text()))
    assert found["crash"]["said"] == "exit code 9: the driver is gone" and found["crash"]["parts"]["first"]
    assert found["lacking"]["status"] == "measured" and "out of memory" in found["lacking"]["parts"]["huge"]["error"]
    step = found["no_graphs"]["parts"]["batch 32"]
    assert step["ms"] > 0 and step["skipped"] == 0
    printed = capfd.readouterr().out
    assert "hang cut in 8 s: killed after 8 s" in printed and "  first: figure 2" in printed
    text = table.render(json.loads(out.read_text()))
    assert "| 124M, no CUDA graphs | batch 32 |" in text and "crash (exit code 9: the driver is gone)" in text


def test_the_suite_ends_with_its_minutes(one_device, tmp_path):
    pieces = {"hang": Piece(f"{HERE}:hang", 1000), "late": PIECES["step"]}
    out = tmp_path / "gpu.json"
    out.write_text(json.dumps({"toy": True, "pieces": {"earlier": {"status": "measured", "parts": {}}}}))
    start = time.monotonic()
    gpu.run(pieces, out, minutes=0.15, toy=True)
    assert time.monotonic() - start < 12
    found = json.loads(out.read_text())["pieces"]
    assert {name: piece["status"] for name, piece in found.items()} == {
        "earlier": "measured",
        "hang": "cut",
        "late": "skipped",
    }


def test_nothing_measured_is_a_failure(one_device, tmp_path):
    """What ``resumed`` goes on from is the work of another piece, which has not run."""
    out = tmp_path / "gpu.json"
    assert gpu.run({"resumed": PIECES["resumed"]}, out, minutes=0.5, toy=True) == 1
    assert "run the piece exact before" in json.loads(out.read_text())["pieces"]["resumed"]["said"]


def test_the_page_keeps_empty_markers_without_results(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- bench:gpu -->\nold\n<!-- /bench:gpu -->\nb\n")
    gpu.write_table(tmp_path / "gpu.json", page)
    assert page.read_text() == "a\n<!-- bench:gpu -->\n<!-- /bench:gpu -->\nb\n"
