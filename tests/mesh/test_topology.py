"""Plans for devices that are not here."""

import subprocess
import sys

import jax
import pytest

from gpt_jax.backend import compiling_for, target_platform
from gpt_jax.errors import UserError
from gpt_jax.mesh.planning import topology as topologies
from gpt_jax.mesh.planning.chips import CHIPS
from tests.mesh.processes import ROOT


@pytest.mark.parametrize(
    "text, chip, count, name",
    [
        ("v5p:8x8x8", "v5p", 512, "v5p:8x8x8"),
        ("tpu-v6e:16x16", "v6e", 256, "v6e:16x16"),
        ("H100:64x8", "h100", 512, "h100:64x8"),
    ],
)
def test_a_topology_is_a_chip_and_its_sides(text, chip, count, name):
    found = topologies.parse(text)
    assert (found.chip, found.count, found.name) == (CHIPS[chip], count, name)


@pytest.mark.parametrize(
    "text", ["v5p", "v5p:8x8", "v6e:4x4x4", "h100:8", "h100:0x8", "a100:2x8", "v9:2x2", "v5p:8x8x-8", ""]
)
def test_what_is_none_is_refused_with_what_may_be(text):
    with pytest.raises(UserError) as caught:
        topologies.parse(text)
    assert caught.value.where == "--topology" and "v5p:8x8x8" in caught.value.allowed
    assert "a100" not in caught.value.allowed.partition(", and its sides")[0]  # its compiler has no description here


@pytest.mark.parametrize("chip", ["h100", "h200"])
def test_a_gpu_is_described_as_its_data_sheet_says(chip):
    text = topologies.target(chip)
    memory = int(text.partition("device_memory_size: ")[2].split()[0])
    assert memory == pytest.approx(CHIPS[chip].memory, rel=0.07)
    assert int(text.partition("memory_bandwidth: ")[2].split()[0]) == pytest.approx(CHIPS[chip].bandwidth, rel=0.03)


@pytest.mark.parametrize("chip", ["h100", "h200"])
def test_a_compiler_reads_of_a_chip_what_it_knows(chip, monkeypatch):
    written = (topologies.TARGETS / f"{chip}.txtpb").read_text()
    monkeypatch.setattr(topologies.jax, "__version_info__", (0, 11, 0))
    assert topologies.target(chip) == written
    monkeypatch.setattr(topologies.jax, "__version_info__", (0, 10, 2))
    left_out = set(written.splitlines()) - set(topologies.target(chip).splitlines())
    assert {line.split(":")[0].strip() for line in left_out} == set(topologies.NEWER)


def test_programs_are_traced_for_the_platform_that_is_named():
    here = target_platform()
    with compiling_for("tpu"):
        assert target_platform() == "tpu"
        with compiling_for("gpu"):
            assert target_platform() == "gpu"
        assert target_platform() == "tpu"
    assert target_platform() == here == jax.default_backend()


def test_a_plan_says_what_compiled_it():
    small = [f"--config.model.{knob}" for knob in ("layers=2", "width=64", "heads=4", "context=64", "vocab=250")]
    asked = ["plan", "--config=configs/gpt2.py:124m", "--topology=v5e:2x2", *small, "--config.train.batch=64"]
    done = subprocess.run([sys.executable, "launch.py", *asked], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("compiled for")]
    compiler = topologies.compiler(topologies.parse("v5e:2x2"))
    assert (f"v5e:2x2, 4 devices, by {compiler}" if compiler else "4 virtual CPU devices") in line
    assert "on v5e" in done.stdout and "of 16 GB" in done.stdout


def test_a_topology_and_a_number_of_devices_are_refused():
    asked = ["plan", "--config=configs/gpt2.py:124m", "--topology=v5e:2x2", "--devices=4"]
    done = subprocess.run([sys.executable, "launch.py", *asked], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and "leave out --devices" in done.stderr
