"""What a step multiplies and sends on meshes of 8, 64 and 512 devices, against an equal share and the closed forms."""

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.mesh import sent
from tests.mesh.processes import ROOT

MESHES = [
    {"data": 8},
    {"fsdp": 8},
    {"tensor": 8},
    {"fsdp": 4, "tensor": 2},
    {"data": 2, "fsdp": 16, "tensor": 2},
    {"data": 4, "fsdp": 32, "tensor": 4},
]


@pytest.mark.every(3)
@pytest.mark.parametrize("mesh", MESHES, ids=lambda mesh: "x".join(f"{axis}{size}" for axis, size in mesh.items()))
def test_devices_share_the_work_and_send_what_the_closed_forms_say(mesh):
    found = run(mesh)
    devices = 1
    for size in mesh.values():
        devices *= size
    assert found["products"] * devices == pytest.approx(found["model"], rel=0.01)
    for axis in mesh:
        assert of_axis(found["sent"], axis) == pytest.approx(on_a_cpu(found["closed"], axis, mesh), rel=0.05)


def test_devices_share_the_logits_of_a_vocabulary_that_they_do_not_divide():
    mesh = {"fsdp": 2, "tensor": 4}
    found, wanted = run(mesh, 16381), run(mesh, 16384)
    assert found["products"] == pytest.approx(wanted["products"], rel=0.001)
    assert found["products"] * 8 == pytest.approx(found["model"], rel=0.01)
    assert sum(found["sent"].values()) < 1.3 * sum(wanted["sent"].values())


def run(*given: Any) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.mesh.sent", *map(json.dumps, given)]
    return json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout)


def of_axis(by_axes: dict[str, float], axis: str) -> float:
    return sum(size for name, size in by_axes.items() if name.split()[0] == axis)


def on_a_cpu(closed: dict[str, float], axis: str, mesh: dict[str, int]) -> float:
    """The closed form for a model in float32, and for a compiler that adds up whole what it then scatters."""
    if axis == "data":  # gradients are in float32 as it is
        return closed[axis]
    if axis == "fsdp":  # an all-reduce sends twice what a reduce-scatter does, weights are twice as large
        return 2 * closed[axis]
    # Of a layer four sums are all-reduces; and those of the gradients of queries, keys and values are apart.
    stream = 2 * sent.ROWS * sent.MODEL["context"] * sent.MODEL["width"] * (mesh["tensor"] - 1) / mesh["tensor"]
    return 2 * (closed[axis] + sent.MODEL["layers"] * (4 + 4) * stream)
