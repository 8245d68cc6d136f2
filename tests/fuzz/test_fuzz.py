"""A fixed series of random commands; ``python -m tests.fuzz`` runs others."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz import judge
from tests.fuzz.cases import Case
from tests.fuzz.surroundings import Surroundings
from tests.fuzz.verbs import VERBS
from tests.fuzz.worker import Ended

ROOT = Path(__file__).resolve().parents[2]
CASES, SEED = 28, "ge"  # in which every verb occurs, and most of them once as they should be


def test_a_series_of_cases_has_no_fault():
    """In a process of its own: one that has used JAX cannot be forked."""
    command = [sys.executable, "-m", "tests.fuzz", f"--seed={SEED}", f"--cases={CASES}", "--seconds=600"]
    environment = {key: value for key, value in os.environ.items() if key != "XLA_FLAGS"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{CASES} cases, 0 failing" in done.stdout
    assert not [verb for verb in VERBS if f"\n  {verb} " not in done.stdout]


@pytest.mark.parametrize(
    "verb, ended, fault",
    [
        ("fit", Ended(70, 1, False, "Traceback (most recent call last)", ""), "exit code 70"),
        ("fit", Ended(2, 1, False, "error: no", ""), ""),
        ("fit", Ended(2, 1, False, "", ""), "without a message"),
        ("fit", Ended(2, 1, False, "error: " + "x" * 10_000, ""), "10007 characters"),
        ("fit", Ended(-11, 1, False, "", ""), "signal 11"),
        ("fit", Ended(-9, 61, True, "", ""), "a hang"),
        ("sample --sample.best_of=16", Ended(-9, 61, True, "", ""), "a hang"),
        ("sample --sample.best_of=65536", Ended(-9, 61, True, "", ""), ""),
        ("train", Ended(-9, 61, True, "\nstep 1/9, loss 5\n", ""), "a hang"),
        ("train", Ended(-9, 61, True, "\nstep 250: validation 2" * 4, ""), ""),
        ("import", Ended(0, 1, False, "", ""), "config.json is missing"),
    ],
)
def test_a_fault_is_named(verb, ended, fault, tmp_path):
    found = judge.faults(Case("x", verb.split(), tmp_path / "made"), ended)
    assert fault in "; ".join(found) and bool(found) == bool(fault)


def test_what_is_half_written_is_named(tmp_path):
    (tmp_path / "config.json").touch()
    assert judge.faults(Case("x", ["import"], tmp_path), Ended(74, 1, False, "error: disk full", ""))


def test_what_a_case_does_outside_its_folder_is_named(tmp_path):
    shared, devices, own = (tmp_path / name for name in ("shared", "devices", "x-1"))
    shared.mkdir(), devices.mkdir()
    (shared / "text.txt").write_text("to be")
    os.mkfifo(devices / "full")
    surroundings = Surroundings(tmp_path, shared, [devices])
    own.mkdir()
    assert surroundings.changes([own.name]) == []
    (shared / "text.txt").write_text("or not")
    (tmp_path / "astray").touch()
    (devices / "full").unlink()
    (devices / "full").write_text("a file now")
    found = surroundings.changes([own.name])
    assert [Path(line.split()[0]).name for line in found] == ["astray", "full", "text.txt"]
    assert surroundings.changes([own.name]) == []
