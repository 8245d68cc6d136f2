"""Every example of every objective, in all ways that must change nothing: ``python -m tests.train.every_objective [names]``.

A line an example. In float64: padding, its side, what stands in it, the order of rows, rows that do not count, 1, 2 and 4
micro-batches, 8 devices; in float32: 20 steps at a learning rate of 0. ``make test`` tries a sample (test_objectives.py).
"""

import os
import sys

from tests import xla

os.environ["XLA_FLAGS"] = xla.flags(8)
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import numpy as np

from gpt_jax.mesh import mesh as meshes
from tests.mesh.sizes import mesh_config
from tests.train.test_objectives import CALLS, ROWS, Case, assert_same, check_layouts, check_still

MESHES = ({"data": 8}, {"data": 4, "fsdp": 2}, {"data": 2, "fsdp": 2, "tensor": 2})


def layouts(case: Case) -> None:
    run = case.program()
    check_layouts(case, run, run(case.laid()))


def filling(case: Case) -> None:
    assert_same(
        case.program()({name: array[:ROWS] for name, array in case.laid().items()}), case.program()(case.laid())
    )


def micro_batches(case: Case) -> None:
    wanted = case.program()(case.laid())
    for parts in (2, 4):
        assert_same(case.program(accumulate=parts)(case.laid()), wanted)


def devices(case: Case) -> None:
    wanted = case.program()(case.laid())
    for sizes in MESHES:
        mesh = meshes.make(mesh_config(**sizes))
        with jax.set_mesh(mesh):
            found = case.program(mesh=mesh)(case.laid())
        assert_same(jax.tree.map(np.asarray, found), wanted)


def still(case: Case) -> None:
    with jax.enable_x64(False):
        check_still(case.call)


CHECKS = (layouts, filling, micro_batches, devices, still)


def main() -> int:
    wrong = 0
    for call in (call for name, calls in CALLS.items() if name in (sys.argv[1:] or CALLS) for call in calls):
        said = []
        for check in CHECKS:
            try:
                with jax.enable_x64(True):
                    check(Case(call))
                said.append(check.__name__)
            except AssertionError as error:
                wrong += 1
                said.append(f"{check.__name__} WRONG: {error}")
        print(f"{call}: {', '.join(said)}", flush=True)
    print(f"{wrong} wrong")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
