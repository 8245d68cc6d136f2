"""The plans of the largest GPT-3 that docs/planning.md prints, for as many devices as it says."""

import subprocess
import sys

import pytest

from tests.mesh.processes import ROOT, cpu_environment


@pytest.mark.every(2)
@pytest.mark.parametrize("chip", ["h100", "v5p"])
def test_the_largest_gpt3_is_planned_for_512_chips(chip):
    command = [sys.executable, "launch.py", "plan", "--config=gpt3:175b", "--devices=512", f"--chip={chip}"]
    done = subprocess.run(command, cwd=ROOT, env=cpu_environment(1), capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    text = done.stdout
    assert "as configured     train.batch = 1600 is no multiple of 512" in text
    assert "(devices: 512)" in text and "memory          fits: " in text
    assert "s a step, as estimated" in text and "MFU " in text and "chip-hours" in text
