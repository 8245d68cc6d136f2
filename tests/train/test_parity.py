"""The loss of every step is the same on one device, on every mesh, and over several processes."""

import numpy as np
import pytest

from tests.train.parity import ALONE, LAYOUTS, LIMITS, largest_difference, losses

STEPS = 10
# Differences of single precision hide those that float64 shows: each mesh once in float64, one of them in both.
CASES = [(name, "float64") for name in LAYOUTS] + [("2 processes, fsdp=8", "float32")]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """dtype -> losses on one device, each run made once."""
    return {dtype: losses(ALONE, dtype, STEPS, tmp_path_factory.mktemp("alone") / dtype) for dtype in LIMITS}


@pytest.mark.every(3)
@pytest.mark.parametrize(("name", "dtype"), CASES)
def test_losses_do_not_depend_on_the_mesh(alone, name, dtype, tmp_path):
    ours = losses(LAYOUTS[name], dtype, STEPS, tmp_path / "sharded")
    assert largest_difference(ours, alone[dtype]) <= LIMITS[dtype]
    assert alone[dtype][-1] < alone[dtype][0]


def test_float64_losses_are_not_rounded_to_single_precision(alone):
    assert any(loss != float(np.float32(loss)) for loss in alone["float64"])
    assert all(loss == float(np.float32(loss)) for loss in alone["float32"])
