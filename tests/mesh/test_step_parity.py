"""A sample of ``python -m tests.mesh.parity``, which tries every mesh with every option."""

import re

import jax
import pytest

from tests.mesh import parity

SAMPLE = [
    ("context, ring", "packing"),
    ("fsdp x context, ring", "accumulation"),
    ("data x tensor x context, ring", "remat"),
    ("tensor x context, gather", "dropout"),
    ("fsdp x context, ulysses", "packing"),
    ("context, ring x expert", "packing"),
    ("tensor x expert", "accumulation"),
    ("fsdp x expert, with a capacity", "dropout"),
    ("tensor x pipeline", "dropout"),
    ("fsdp x pipeline, two rounds", "remat"),
    ("context, ring x expert x pipeline", "packing"),
]


@pytest.mark.every(4)
@pytest.mark.parametrize("name, option", SAMPLE)
def test_a_step_on_a_mesh_is_the_step_of_one_device(name, option):
    with jax.enable_x64(True):
        knobs = parity.layouts()[name]
        wanted = parity.step(parity.alone(knobs), option, 1)
        loss, gradient = parity.differences(parity.step(knobs, option), wanted)
    assert loss <= parity.LOSS and gradient <= parity.GRADIENT


def test_a_step_that_differs_is_found():
    with jax.enable_x64(True):
        wanted, other = parity.step({}, "plain", 1), parity.step({"model.logit_softcap": 50.0}, "plain", 1)
    loss, gradient = parity.differences(other, wanted)
    assert loss > parity.LOSS and gradient > parity.GRADIENT


def test_the_table_in_the_documents_has_all_meshes_and_nothing_beyond_the_bounds():
    text = parity.DOCUMENT.read_text(encoding="utf-8")
    table = text.partition(parity.BEGIN)[2].partition(parity.END)[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    assert [row[0] for row in rows] == list(parity.layouts())
    cells = [cell for row in rows for cell in row[1:] if cell != "refused"]
    assert all(re.fullmatch(r"\de[+-]\d\d, \de[+-]\d\d", cell) for cell in cells)
    for cell in cells:
        loss, gradient = map(float, cell.split(","))
        assert loss <= parity.LOSS and gradient <= parity.GRADIENT
